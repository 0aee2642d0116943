# The master of a farm. It has no key and no engine, and does not run as root.
# BASE is an image of Debian 12, as the pipeline makes one (base-bookworm) or by digest. Build it in
# the project's directory: docker build --file dockerfiles/farm/master.Dockerfile .
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
# postgresql-client is what farm --backup copies a database with.
# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install --yes --no-install-recommends \
      ca-certificates postgresql-client python3 tini \
 && update-ca-certificates \
 && rm -rf /var/lib/apt/lists/* /var/cache/apt/*.bin /var/log/apt /var/log/dpkg.log
COPY --from=environment /opt/environment /opt/environment
WORKDIR /opt/rpython-pipeline
COPY pipeline pipeline
COPY translation_configs translation_configs
COPY dockerfiles dockerfiles
COPY packaging packaging
RUN useradd --uid 10001 --create-home farm
ENV PATH=/opt/environment/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONPATH=/opt/rpython-pipeline \
    SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt
USER farm
# FARM is the directory that `farm --prepare-only` has made, at the same place as there.
ENTRYPOINT ["tini", "--", "sh", "-euc", "\
  buildbot upgrade-master --quiet \"$FARM/master\"; \
  exec twistd --nodaemon --pidfile= --rundir=\"$FARM/master\" --python=\"$FARM/master/buildbot.tac\""]
