# syntax=docker/dockerfile:1.7
# weir: the proxy and the command line that steers it, one static program. From the root of the repository:
#
#   docker buildx build -f docker/weir.Dockerfile --build-arg VERSION=v1.2.3 \
#     --platform linux/amd64,linux/arm64 --sbom=true --provenance=true -t ghcr.io/weir-proxy/weir:v1.2.3 --push .
#
# The same sources, VERSION and GO_IMAGE give the same program: -trimpath leaves out where it was built, -buildvcs=false
# what git said there. With SOURCE_DATE_EPOCH given to buildx the layers have no time of their own either.
ARG GO_IMAGE=golang:1.26.8-bookworm
ARG RUNTIME_IMAGE=gcr.io/distroless/static-debian12:nonroot

# Runs on the machine that builds; Go compiles for the others, so that nothing is emulated.
FROM --platform=$BUILDPLATFORM ${GO_IMAGE} AS build
ARG TARGETOS
ARG TARGETARCH
ARG VERSION=unknown
ARG OUT=/out
ENV CGO_ENABLED=0 GOTOOLCHAIN=local GOFLAGS=-mod=readonly
WORKDIR /src
COPY . .
RUN --mount=type=cache,target=/go/pkg/mod --mount=type=cache,target=/root/.cache/go-build \
    GOOS=$TARGETOS GOARCH=$TARGETARCH go build -trimpath -buildvcs=false \
      -ldflags "-s -w -X main.version=$VERSION" -o "$OUT/weir" ./cmd/weir && \
    mkdir -p "$OUT/state"

FROM ${RUNTIME_IMAGE}
ARG VERSION=unknown
ARG REVISION=unknown
LABEL org.opencontainers.image.title="weir" \
      org.opencontainers.image.description="A layer-7 proxy for pods that serve models" \
      org.opencontainers.image.source="https://github.com/weir-proxy/weir" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION"
COPY --from=build /src/LICENSE /licenses/weir
COPY --from=build /out/weir /weir
# A volume that is mounted here begins with this folder's owner, so that weir can write its state.
COPY --from=build --chown=65532:65532 /out/state /var/lib/weir
USER 65532:65532
# Clients, clients over TLS, the admin API.
EXPOSE 8080 8443 9901
STOPSIGNAL SIGTERM
# Asks the admin API at its default address, or at WEIR_ADMIN; readiness needs no token.
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s --retries=3 CMD ["/weir", "healthcheck"]
ENTRYPOINT ["/weir"]
CMD ["serve", "-c", "/etc/weir/weir.yaml"]
