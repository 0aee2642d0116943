# The translation environment on the worker's own architecture for another one: the bootstrap
# interpreter and the host's compiler, which RPython uses for itself, and a compiler for TARGET_ARCH
# (Debian's name), whose tools' names begin with PREFIX; LOADER is the target's dynamic loader.
# PACKAGES are for the host, LIBRARIES for both. All are given by the pipeline, BASE by image id.
ARG BASE
# hadolint ignore=DL3006
FROM ${BASE}
ARG TARGET_ARCH
ARG PREFIX
ARG LOADER
ARG PACKAGES
ARG LIBRARIES
ARG MUSL_LIBRARIES

# Later suites have no PyPy 2.7; bullseye's runs there with the libraries that come with it.
RUN printf '%s\n' 'Package: *' 'Pin: release n=bullseye' 'Pin-Priority: 100' \
      >/etc/apt/preferences.d/bullseye \
 && echo 'deb http://deb.debian.org/debian bullseye main' >/etc/apt/sources.list.d/bullseye.list

# RPython compiles and loads libraries for the host too, so each is there for both.
# hadolint ignore=DL3008,SC2086
RUN gnu="$(echo "${PREFIX}" | sed 's/-musl/-gnu/')" \
 && compiler="gcc-$(echo "${gnu}" | tr _ -)" \
 && wanted="libc6-dev ${LIBRARIES}" \
 && if [ "${gnu}" != "${PREFIX}" ]; then wanted="libc6-dev ${MUSL_LIBRARIES}"; fi \
 && foreign="" \
 && for name in ${wanted}; do foreign="${foreign} ${name}:${TARGET_ARCH}"; done \
 && dpkg --add-architecture "${TARGET_ARCH}" \
 && apt-get update \
 && apt-get install --yes --no-install-recommends \
      pypy gcc make binutils pkg-config time util-linux ccache \
      libc6-dev ${PACKAGES} ${LIBRARIES} "${compiler}" ${foreign} \
 && rm -rf /var/lib/apt/lists/* /var/cache/apt/*.bin /var/log/apt /var/log/dpkg.log

# musl has no compiler of its own: that for glibc of the same architecture is told where musl is.
# ccache looks at the compiler's content, and behind a script there is another one.
RUN gnu="$(echo "${PREFIX}" | sed 's/-musl/-gnu/')" \
 && if [ "${gnu}" != "${PREFIX}" ]; then \
      printf '#!/bin/sh\nexec %s-gcc "$@" -specs %s\n' \
        "${gnu}" "/usr/lib/${PREFIX}/musl-gcc.specs" >"/usr/local/bin/${PREFIX}-gcc" \
      && chmod 755 "/usr/local/bin/${PREFIX}-gcc" \
      && ln -s "/usr/bin/${gnu}-strip" "/usr/local/bin/${PREFIX}-strip" \
      && ln -s "/usr/bin/${gnu}-objcopy" "/usr/local/bin/${PREFIX}-objcopy"; \
    fi \
 && "${gnu}-gcc" --version >/etc/cross-compiler \
 && ln -sf ../../bin/ccache "/usr/lib/ccache/${PREFIX}-gcc"
ENV CCACHE_EXTRAFILES=/etc/cross-compiler

# musl has no headers of the kernel; they are the same for every C library.
# Debian has no libffi for musl, and a JIT calls through it: from Debian's source, which apt
# authenticates, to be linked into what needs it.
WORKDIR /tmp/libffi
# hadolint ignore=DL3003
RUN gnu="$(echo "${PREFIX}" | sed 's/-musl/-gnu/')" \
 && if [ "${gnu}" != "${PREFIX}" ]; then \
      ln -s ../linux ../asm-generic "../${gnu}/asm" "/usr/include/${PREFIX}/" \
      && sed -n 's/^deb \(.*\)/deb-src \1/p' /etc/apt/sources.list >/etc/apt/sources.list.d/source.list \
      && apt-get update \
      && apt-get source --download-only libffi/"$(. /etc/os-release && echo "${VERSION_CODENAME}")" \
      && tar --extract --strip-components=1 --file libffi_*.orig.tar.* \
      && ./configure --quiet "--host=${gnu}" "CC=${PREFIX}-gcc" \
           --prefix=/usr "--libdir=/usr/lib/${PREFIX}" "--includedir=/usr/include/${PREFIX}" \
           --disable-shared --with-pic --disable-docs --disable-multi-os-directory \
           --without-gcc-arch \
      && make -s -j"$(nproc)" \
      && make -s install \
      && rm -rf /tmp/libffi/* /var/lib/apt/lists/* /etc/apt/sources.list.d/source.list; \
    fi
WORKDIR /

# RPython starts what is for the target through sb2; here the kernel knows what to do with it.
# Under these names a packager finds the tools that can read what was made for the target.
RUN printf '%s\n' '#!/bin/sh' 'exec "$@"' >/usr/local/bin/sb2 \
 && mkdir /usr/local/cross \
 && printf '#!/bin/sh\nexec %s --list "$@"\n' "$(ls -d /lib*/"${LOADER}" | head -n 1)" \
      >/usr/local/cross/ldd \
 && chmod 755 /usr/local/bin/sb2 /usr/local/cross/ldd \
 && for tool in strip objcopy; do \
      ln -s "$(command -v "${PREFIX}-${tool}")" "/usr/local/cross/${tool}"; \
    done
