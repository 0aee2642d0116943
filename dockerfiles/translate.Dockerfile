# The translation environment: a Python 2.7 bootstrap interpreter (PyPy, and CPython to compare
# with), a C compiler, and the libraries RPython links to. BASE is given by the pipeline, by image
# id; which base that is stands in translation_configs/environments.toml.
ARG BASE
# hadolint ignore=DL3006
FROM ${BASE}

# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install --yes --no-install-recommends \
      pypy python2 gcc libc6-dev make binutils pkg-config libffi-dev zlib1g-dev time util-linux ccache \
 && rm -rf /var/lib/apt/lists/* /var/cache/apt/*.bin /var/log/apt /var/log/dpkg.log
