# The translation environment where no suite packages a Python 2.7: CPython 2.7 is built from
# bullseye's source, which apt authenticates as it does packages. BASE is given by the pipeline.
ARG BASE
# hadolint ignore=DL3006
FROM ${BASE} AS python
RUN echo 'deb-src http://deb.debian.org/debian bullseye main' \
      >/etc/apt/sources.list.d/bullseye.list \
 && apt-get update \
 && apt-get install --yes --no-install-recommends gcc libc6-dev make zlib1g-dev libffi-dev
WORKDIR /tmp/python
RUN apt-get source --download-only python2.7 \
 && tar --extract --strip-components=1 --file python2.7_*.orig.tar.* \
 && ./configure --quiet --prefix=/opt/python2.7 --enable-unicode=ucs4 --without-ensurepip \
      --with-system-ffi \
 && make -s -j"$(nproc)" \
 # Nothing here needs the tests, and under QEMU to byte-compile them takes long.
 && rm -r Lib/test Lib/*/test Lib/*/tests \
 && make -s install

# hadolint ignore=DL3006
FROM ${BASE}
COPY --from=python /opt/python2.7 /opt/python2.7
# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install --yes --no-install-recommends \
      gcc libc6-dev make binutils pkg-config libffi-dev zlib1g-dev time util-linux ccache \
 && rm -rf /var/lib/apt/lists/* /var/cache/apt/*.bin /var/log/apt /var/log/dpkg.log \
 && ln -s /opt/python2.7/bin/python2.7 /usr/local/bin/python2.7
