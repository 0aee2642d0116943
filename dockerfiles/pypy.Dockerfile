# PyPy's translation environment: the bootstrap interpreters, a C compiler behind ccache, and the
# libraries that PyPy and its cffi modules link to. BASE is given by the pipeline, by image id;
# which base that is stands in translation_configs/environments.toml.
ARG BASE
# hadolint ignore=DL3006
FROM ${BASE}

# perl builds the embedded OpenSSL; patchelf makes the tree portable.
# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install --yes --no-install-recommends \
      pypy python2 gcc libc6-dev make binutils pkg-config time util-linux ccache patchelf perl file \
      xz-utils bzip2 libffi-dev zlib1g-dev libbz2-dev libexpat1-dev libsqlite3-dev libncurses-dev \
      libssl-dev liblzma-dev libgdbm-dev tk-dev \
 && rm -rf /var/lib/apt/lists/* /var/cache/apt/*.bin /var/log/apt /var/log/dpkg.log
