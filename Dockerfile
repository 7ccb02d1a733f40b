# syntax=docker/dockerfile:1
# docker build -t plantd-metric .
# docker run -e PLANTD_MODULE_METRIC_TYPE=consumer plantd-metric
# docker run -e PLANTD_MODULE_METRIC_TYPE=producer plantd-metric

FROM rust:1.95-bookworm AS build
WORKDIR /build
COPY . .
# The crates and the target folder outlive the build, so the next one compiles only what changed.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/build/target \
    cargo build --release --locked --bin plantd-metric \
    && install -D target/release/plantd-metric /out/plantd-metric

FROM debian:bookworm-slim
# Certificates of public authorities, for receivers and storage behind https.
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --user-group --no-create-home --shell /usr/sbin/nologin plantd \
    && install -d -o plantd -g plantd -m 0750 /var/lib/plantd/metrics
COPY --from=build /out/plantd-metric /usr/local/bin/plantd-metric
COPY LICENSE /usr/share/doc/plantd-metric/LICENSE

# By itself the program listens on the loopback address only, which in a container nobody else can reach.
ENV PLANTD_MODULE_METRIC__HTTP__LISTEN=0.0.0.0:8080 \
    PLANTD_MODULE_METRIC__STORAGE__PATH=/var/lib/plantd/metrics

USER 10001:10001
WORKDIR /var/lib/plantd
VOLUME /var/lib/plantd/metrics
# HTTP; the embedded bus for publishers and for subscribers.
EXPOSE 8080 13000 13001
# SIGTERM: refuse new input, drain, write out, exit 0 within 5 s.
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s --retries=3 \
    CMD ["plantd-metric", "--check-health"]
ENTRYPOINT ["plantd-metric"]
