-- What the database of compose.production.yaml begins with: a record of predictions for model servers of your own to write,
-- and for labels that come later. MLflow makes its own tables, in the schema public. PostgreSQL runs this once, as the user
-- ml in mldb, when the volume is empty.
CREATE SCHEMA IF NOT EXISTS serving;

CREATE TABLE IF NOT EXISTS serving.predictions (
    request_id    text        NOT NULL,               -- X-Request-ID, by which weir's access log has it too
    predicted_at  timestamptz NOT NULL DEFAULT now(),
    model         text        NOT NULL,
    model_version text        NOT NULL,
    variant       text,                               -- X-Weir-Variant
    user_hash     text,                               -- never the user
    features      jsonb,
    prediction    jsonb       NOT NULL,
    latency_ms    double precision CHECK (latency_ms >= 0),
    PRIMARY KEY (request_id, predicted_at)
);

CREATE INDEX IF NOT EXISTS predictions_by_version ON serving.predictions (model, model_version, predicted_at DESC);

-- The truth, when it is known. It may come before the prediction is written, so that nothing refers to it.
CREATE TABLE IF NOT EXISTS serving.outcomes (
    request_id  text        NOT NULL,
    outcome     text        NOT NULL,                 -- as in the experiment of the route
    value       double precision NOT NULL,
    observed_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (request_id, outcome)
);

-- How often each version was right, by day.
CREATE OR REPLACE VIEW serving.outcomes_by_version AS
SELECT date_trunc('day', p.predicted_at) AS day, p.model, p.model_version, o.outcome,
       count(*) AS predictions, avg(o.value) AS mean
FROM serving.predictions p
JOIN serving.outcomes o USING (request_id)
GROUP BY 1, 2, 3, 4;
