# Where Debian packages are made and judged: Debian's packaging tools, and the libraries that
# interpreters' programs may need, from which dpkg-shlibdeps computes the dependencies. A library
# that is bundled in an archive is left out of the packages where it is installed here.
# For another architecture than the worker's the libraries are TARGET_ARCH's (Debian's name), and
# the binary tools' names begin with PREFIX. All are given by the pipeline, BASE by
# image id, and LOADER, which nothing here needs.
ARG BASE
# hadolint ignore=DL3006
FROM ${BASE}
ARG TARGET_ARCH
ARG PREFIX
ARG LOADER

# Packages whose names ended in t64 when time_t got 64 bits are asked for by either name.
# hadolint ignore=DL3008,SC2086
RUN libraries="libc6 libgcc-s1 zlib1g libbz2-1.0 libsqlite3-0 libncursesw6 libtinfo6 libtcl8.6 \
      libtk8.6 libx11-6 libxft2 libxss1 libfontconfig1 libffi8 libexpat1 liblzma5 libgdbm6" \
 && if [ -n "${TARGET_ARCH}" ]; then dpkg --add-architecture "${TARGET_ARCH}"; fi \
 && apt-get update \
 && wanted="" \
 && for name in ${libraries}; do \
      if apt-cache show "${name}t64" >/dev/null 2>&1; then name="${name}t64"; fi; \
      wanted="${wanted} ${name}${TARGET_ARCH:+:${TARGET_ARCH}}"; \
    done \
 && if [ -n "${PREFIX}" ]; then \
      wanted="${wanted} binutils-$(echo "${PREFIX}" | tr _ - | sed 's/-musl/-gnu/')"; \
    fi \
 && apt-get install --yes --no-install-recommends binutils dpkg-dev lintian xz-utils ${wanted} \
 && rm -rf /var/lib/apt/lists/* /var/cache/apt/*.bin /var/log/apt /var/log/dpkg.log
