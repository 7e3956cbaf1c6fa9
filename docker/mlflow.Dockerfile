# syntax=docker/dockerfile:1.7
# MLflow with what its own image lacks for this stack: a driver for PostgreSQL, and boto3 for artifacts in S3. Without the
# driver the server ends at once when its backend store is PostgreSQL.
ARG MLFLOW_IMAGE=ghcr.io/mlflow/mlflow:v3.1.1
FROM ${MLFLOW_IMAGE}
RUN pip install --no-cache-dir psycopg2-binary==2.9.10 boto3==1.38.46 && \
    install -d -o 65532 -g 65532 /mlartifacts
USER 65532:65532
EXPOSE 5000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=10s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:5000/health', timeout=5)"]
ENTRYPOINT ["mlflow"]
CMD ["server", "--host", "0.0.0.0", "--port", "5000"]
