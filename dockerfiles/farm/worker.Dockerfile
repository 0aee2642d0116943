# A worker of a farm, or its signer: the pipeline and what it is run with. Containers of its work
# are started beside it, by the engine whose socket it is given.
# BASE is an image of Debian 12, as the pipeline makes one (base-bookworm) or by digest. Build it in
# the project's directory: docker build --file dockerfiles/farm/worker.Dockerfile .
ARG BASE
# hadolint ignore=DL3006
FROM ${BASE} AS environment
ENV PIP_CERT=/etc/ssl/certs/ca-certificates.crt SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt
COPY dockerfiles/farm/certificates/ /usr/local/share/ca-certificates/
# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install --yes --no-install-recommends ca-certificates python3-venv \
 && update-ca-certificates
WORKDIR /opt/rpython-pipeline
COPY pyproject.toml uv.lock README.md LICENSE ./
# hadolint ignore=DL3013
RUN python3 -m venv /opt/uv \
 && /opt/uv/bin/pip install --quiet --no-cache-dir uv \
 && UV_PROJECT_ENVIRONMENT=/opt/environment /opt/uv/bin/uv sync --quiet --locked --no-cache \
      --no-default-groups --no-install-project --extra=farm --python=/usr/bin/python3

# hadolint ignore=DL3006
FROM ${BASE}
COPY dockerfiles/farm/certificates/ /usr/local/share/ca-certificates/
# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install --yes --no-install-recommends \
      ca-certificates git gnupg mmdebstrap python3 tini \
 && update-ca-certificates \
 && rm -rf /var/lib/apt/lists/* /var/cache/apt/*.bin /var/log/apt /var/log/dpkg.log
COPY --from=environment /opt/environment /opt/environment
WORKDIR /opt/rpython-pipeline
COPY pipeline pipeline
COPY translation_configs translation_configs
COPY dockerfiles dockerfiles
COPY packaging packaging
ENV PATH=/opt/environment/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt \
    RPP_FARM_CA=/run/secrets/ca
VOLUME /worker
# Who it is comes as options, or as the variables that a master gives to one it starts itself; that
# has the CA as a volume: FARM/tls/ca.pem:/run/secrets/ca:ro.
# The first process is one that waits for others': work outlives who started it.
ENTRYPOINT ["tini", "--", "python3", "-m", "pipeline", "farm-worker", "/worker"]
