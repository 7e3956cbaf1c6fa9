# A model server with its model: what the guide calls ml-api. From the root of the repository:
#
#   docker build -f docker/pipeline/model.Dockerfile --build-arg MODEL=backend/models/iris-forest.onnx \
#     --build-arg MODEL_VERSION=v1.0.0 -t ghcr.io/example/ml-api:v1.0.0 .
#
# The forest has the four features of the guide. Put yours in its place: any ONNX model that POST /predict or the Open
# Inference Protocol can ask.
ARG BACKEND_IMAGE=ghcr.io/weir-proxy/weir-backend:v0.5.0
FROM ${BACKEND_IMAGE}
ARG MODEL=backend/models/iris-forest.onnx
ARG MODEL_VERSION=v1.0.0
COPY --chmod=0444 ${MODEL} /models/model.onnx
ENV MODEL_PATH=/models/model.onnx MODEL_NAME=model MODEL_VERSION=${MODEL_VERSION}
LABEL org.opencontainers.image.title="ml-api" org.opencontainers.image.version="${MODEL_VERSION}"
EXPOSE 8000
# The base's asks where the base listens, which is another port.
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s --retries=3 CMD ["/weir-backend", "healthcheck", "127.0.0.1:8000"]
CMD ["--listen", ":8000"]
