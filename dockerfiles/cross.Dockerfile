# The translation environment on the worker's own architecture for another one: the bootstrap
# interpreter and the host's compiler, which RPython uses for itself, and a compiler for TARGET_ARCH
# (Debian's name), whose tools' names begin with PREFIX. BASE, by image id, and the other arguments
# are given by the pipeline.
ARG BASE
# hadolint ignore=DL3006
FROM ${BASE}
ARG TARGET_ARCH
ARG PREFIX

# Later suites have no PyPy 2.7; bullseye's runs there with the libraries that come with it.
RUN printf '%s\n' 'Package: *' 'Pin: release n=bullseye' 'Pin-Priority: 100' \
      >/etc/apt/preferences.d/bullseye \
 && echo 'deb http://deb.debian.org/debian bullseye main' >/etc/apt/sources.list.d/bullseye.list

# musl has no compiler of its own: that for glibc of the same architecture is told where musl is.
# ccache looks at the compiler's content, and behind a script there is another one.
# hadolint ignore=DL3008
RUN dpkg --add-architecture "${TARGET_ARCH}" \
 && apt-get update \
 && gnu="$(echo "${PREFIX}" | sed 's/-musl/-gnu/')" \
 && package="gcc-$(echo "${gnu}" | tr _ -)" \
 && libraries="libffi-dev:${TARGET_ARCH} zlib1g-dev:${TARGET_ARCH}" \
 && if [ "${gnu}" != "${PREFIX}" ]; then libraries="musl-dev:${TARGET_ARCH}"; fi \
 && apt-get install --yes --no-install-recommends \
      pypy gcc libc6-dev make binutils pkg-config libffi-dev zlib1g-dev time util-linux ccache \
      "${package}" "libc6-dev:${TARGET_ARCH}" ${libraries} \
 && rm -rf /var/lib/apt/lists/* /var/cache/apt/*.bin /var/log/apt /var/log/dpkg.log \
 && if [ "${gnu}" != "${PREFIX}" ]; then \
      specs="/usr/lib/${PREFIX}/musl-gcc.specs" \
      && printf '#!/bin/sh\nexec %s-gcc "$@" -specs %s\n' "${gnu}" "${specs}" \
           >"/usr/local/bin/${PREFIX}-gcc" \
      && chmod 755 "/usr/local/bin/${PREFIX}-gcc" \
      && ln -s "/usr/bin/${gnu}-strip" "/usr/local/bin/${PREFIX}-strip"; \
    fi \
 && "${gnu}-gcc" --version >/etc/cross-compiler \
 && ln -sf ../../bin/ccache "/usr/lib/ccache/${PREFIX}-gcc"
ENV CCACHE_EXTRAFILES=/etc/cross-compiler

# RPython starts what is for the target through sb2; here the kernel knows what to do with it.
RUN printf '%s\n' '#!/bin/sh' 'exec "$@"' >/usr/local/bin/sb2 && chmod 755 /usr/local/bin/sb2
