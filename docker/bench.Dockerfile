# syntax=docker/dockerfile:1.7
# weir-bench: the load tester, one static program. From the root of the repository:
#
#   docker buildx build -f docker/bench.Dockerfile --build-arg VERSION=v1.2.3 -t ghcr.io/weir-proxy/weir-bench:v1.2.3 .
ARG GO_IMAGE=golang:1.26.8-bookworm
ARG RUNTIME_IMAGE=gcr.io/distroless/static-debian12:nonroot

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
      -ldflags "-s -w -X main.version=$VERSION" -o "$OUT/weir-bench" ./cmd/weir-bench

FROM ${RUNTIME_IMAGE}
ARG VERSION=unknown
ARG REVISION=unknown
LABEL org.opencontainers.image.title="weir-bench" \
      org.opencontainers.image.description="An open-loop load tester for pods that serve models" \
      org.opencontainers.image.source="https://github.com/weir-proxy/weir" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION"
COPY --from=build /src/LICENSE /licenses/weir
COPY --from=build /out/weir-bench /weir-bench
USER 65532:65532
STOPSIGNAL SIGTERM
# It runs to its end and has nothing to ask.
HEALTHCHECK NONE
ENTRYPOINT ["/weir-bench"]
CMD ["run", "--help"]
