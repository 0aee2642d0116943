# A clean system on which somebody has what it takes to build extension modules, to make
# certificates and to open windows. BASE is given by the pipeline, by image id.
ARG BASE
# hadolint ignore=DL3006
FROM ${BASE}

# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install --yes --no-install-recommends \
      gcc libc6-dev openssl libx11-6 libxft2 libxss1 libfontconfig1 \
 && rm -rf /var/lib/apt/lists/* /var/cache/apt/*.bin /var/log/apt /var/log/dpkg.log
