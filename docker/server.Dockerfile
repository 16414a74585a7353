# SPDX-License-Identifier: MIT
#
# A PostgreSQL server for the tests: the official image with our way of starting it.
ARG VERSION=17
FROM postgres:${VERSION}
COPY server /usr/local/bin/evpq-server
USER postgres
STOPSIGNAL SIGINT
ENTRYPOINT ["evpq-server"]
