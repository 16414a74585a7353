# SPDX-License-Identifier: MIT
#
# Debian's PgBouncer: 1.18 of Debian 12, which knows no prepared statements, 1.24 of Debian 13.
ARG DEBIAN=12
FROM debian:${DEBIAN}-slim
RUN apt-get update && \
    DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends pgbouncer \
        postgresql-client && \
    rm -rf /var/lib/apt/lists/*
COPY pgbouncer /usr/local/bin/evpq-pgbouncer
USER postgres
STOPSIGNAL SIGINT
ENTRYPOINT ["evpq-pgbouncer"]
