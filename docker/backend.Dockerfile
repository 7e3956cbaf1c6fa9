# syntax=docker/dockerfile:1.7
# weir-backend: the model server. It is linked by cgo and loads ONNX Runtime when it starts, so that it needs the C and
# C++ libraries of the Debian it was built on. From the root of the repository:
#
#   docker buildx build -f docker/backend.Dockerfile --build-arg VERSION=v1.2.3 -t ghcr.io/weir-proxy/weir-backend:v1.2.3 .
#   docker buildx build -f docker/backend.Dockerfile --target gpu --build-arg ORT_GPU_SHA256=… -t …/weir-backend:v1.2.3-gpu .
#
# There are no models in it: mount them, and name one in MODEL_PATH or all of them in a file (-c).
ARG GO_IMAGE=golang:1.26.8-bookworm
ARG NODE_IMAGE=node:22.16.0-bookworm-slim
ARG DEBIAN_IMAGE=debian:12.11-slim
ARG CPU_IMAGE=gcr.io/distroless/cc-debian12:nonroot
ARG GPU_IMAGE=nvidia/cuda:12.8.1-cudnn-runtime-ubuntu24.04

# ONNX Runtime for CPUs: what scripts/setup.sh fetches, compared with the SHA-512 that is written there.
FROM --platform=$BUILDPLATFORM ${NODE_IMAGE} AS onnxruntime
ARG TARGETOS
ARG TARGETARCH
WORKDIR /src
COPY scripts/setup.sh scripts/setup.sh
RUN GOOS=$TARGETOS GOARCH=$TARGETARCH scripts/setup.sh onnxruntime

# ONNX Runtime for CUDA: the project's own release for linux/amd64. Give the SHA-256 of the file you have looked at; without
# it this stage, and with it the target gpu, does not build.
FROM --platform=linux/amd64 ${DEBIAN_IMAGE} AS onnxruntime-gpu
ARG ORT_GPU_VERSION=1.24.1
ARG ORT_GPU_SHA256
WORKDIR /src
ADD --checksum=sha256:${ORT_GPU_SHA256} https://github.com/microsoft/onnxruntime/releases/download/v${ORT_GPU_VERSION}/onnxruntime-linux-x64-gpu-${ORT_GPU_VERSION}.tgz onnxruntime.tgz
RUN mkdir lib && tar -xzf onnxruntime.tgz --strip-components=2 -C lib --wildcards '*/lib/*.so*'

# Not on the machine that builds, as weir is: cgo would need a C compiler for each other architecture. One that is not the
# builder's is emulated, which takes its time and gives the same.
FROM ${GO_IMAGE} AS build
ARG VERSION=unknown
ARG OUT=/out
ENV CGO_ENABLED=1 CGO_CFLAGS="-O2 -g -Wno-deprecated-declarations" GOTOOLCHAIN=local GOFLAGS=-mod=readonly
WORKDIR /src
COPY . .
RUN --mount=type=cache,target=/go/pkg/mod --mount=type=cache,target=/root/.cache/go-build \
    go build -trimpath -buildvcs=false \
      -ldflags "-s -w -X main.version=$VERSION" -o "$OUT/weir-backend" ./cmd/weir-backend

FROM ${GPU_IMAGE} AS gpu
ARG VERSION=unknown
ARG REVISION=unknown
LABEL org.opencontainers.image.title="weir-backend (CUDA)" \
      org.opencontainers.image.description="A server of ONNX models" \
      org.opencontainers.image.source="https://github.com/weir-proxy/weir" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION"
# utility is NVML, from which weir-backend has its figures of GPUs.
ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
ENV ORT_DYLIB_PATH=/usr/local/lib/onnxruntime/libonnxruntime.so
COPY --from=build /src/LICENSE /licenses/weir
COPY --from=onnxruntime-gpu /src/lib /usr/local/lib/onnxruntime
COPY --from=build /out/weir-backend /weir-backend
USER 65532:65532
# HTTP, gRPC where GRPC_LISTEN asks for it.
EXPOSE 8001 9001
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=120s --retries=3 CMD ["/weir-backend", "healthcheck"]
ENTRYPOINT ["/weir-backend"]
CMD ["--listen", ":8001", "--execution-providers", "cuda,cpu"]

# The default: for CPUs.
FROM ${CPU_IMAGE} AS cpu
ARG VERSION=unknown
ARG REVISION=unknown
LABEL org.opencontainers.image.title="weir-backend" \
      org.opencontainers.image.description="A server of ONNX models" \
      org.opencontainers.image.source="https://github.com/weir-proxy/weir" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION"
ENV ORT_DYLIB_PATH=/usr/local/lib/libonnxruntime.so
COPY --from=build /src/LICENSE /licenses/weir
COPY --from=onnxruntime /src/bin/lib/libonnxruntime.so /usr/local/lib/libonnxruntime.so
COPY --from=build /out/weir-backend /weir-backend
USER 65532:65532
EXPOSE 8001 9001
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s --retries=3 CMD ["/weir-backend", "healthcheck"]
ENTRYPOINT ["/weir-backend"]
CMD ["--listen", ":8001"]
