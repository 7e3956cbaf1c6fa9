package config

import (
	"errors"
	"strings"
	"time"
)

const inARowDoc = "How many looks in a row have to find it beyond its bound before that fails; looks without data are passed over."

func prometheusShape() shape[[]PrometheusAnalysis] {
	return list[PrometheusAnalysis]{noun: "query", most: 20, optional: true, fresh: DefaultPrometheusAnalysis, elem: object[PrometheusAnalysis]{
		some: []string{"max", "min"},
		fields: []field[PrometheusAnalysis]{
			key("name", nameShape(), func(p *PrometheusAnalysis) *string { return &p.Name },
				"What the status calls it.").must(),
			key("url", urlShape("http://prometheus.example.com:9090"), func(p *PrometheusAnalysis) *string { return &p.URL },
				"The server; /api/v1/query is added.").must(),
			key("query", scalar[string]{want: "a query", free: true, format: verbatim, parse: func(s string) (string, error) {
				if strings.TrimSpace(s) == "" {
					return "", errors.New("is empty; write a query such as sum(rate(errors_total[1m]))")
				}
				return s, nil
			}, body: func() schema { return schema{"type": "string", "minLength": 1} }}, func(p *PrometheusAnalysis) *string { return &p.Query },
				"An instant query with one number as its result: a scalar, or a vector of one series.").must(),
			key("max", boundaryShape(), func(p *PrometheusAnalysis) **float64 { return &p.Max },
				"What the result may be at most. Absent: anything."),
			key("min", boundaryShape(), func(p *PrometheusAnalysis) **float64 { return &p.Min },
				"What it has to be at least. Absent: anything."),
			key("in_a_row", countShape(1), func(p *PrometheusAnalysis) *int { return &p.InARow }, inARowDoc),
			key("timeout", durationShape(), func(p *PrometheusAnalysis) *time.Duration { return &p.Timeout },
				"How long the answer may take; later there is no data."),
			key("token_file", pathShape(), func(p *PrometheusAnalysis) *string { return &p.TokenFile },
				"The path of a file with a bearer token, or with USER:PASSWORD. It is read at each use. Absent: no authentication."),
		}}}
}

// boundaryShape is any number, or none.
func boundaryShape() shape[*float64] {
	return optional[float64]{fresh: func() float64 { return 0 }, inner: numberShape("a number", func(float64) bool { return true }, schema{"type": "number"})}
}

func agreementShape() shape[*AgreementAnalysis] {
	return optional[AgreementAnalysis]{fresh: DefaultAgreementAnalysis, inner: object[AgreementAnalysis]{fields: []field[AgreementAnalysis]{
		key("min", fractionShape(), func(a *AgreementAnalysis) *float64 { return &a.Min },
			"The percentage of the answers compared since the rollout began that have to agree.").must(),
		key("min_compared", countShape(1), func(a *AgreementAnalysis) *int { return &a.MinCompared },
			"How many have to be compared before that is judged."),
	}}}
}

func driftShape() shape[*DriftAnalysis] {
	distance := func() shape[float64] {
		return unlessZero(numberShape("a number above 0, such as 0.2", func(f float64) bool { return f > 0 }, schema{"type": "number", "exclusiveMinimum": 0}))
	}
	return optional[DriftAnalysis]{fresh: DefaultDriftAnalysis, inner: object[DriftAnalysis]{fields: []field[DriftAnalysis]{
		key("max_psi", distance(), func(a *DriftAnalysis) *float64 { return &a.MaxPSI },
			"What the population stability index may be at most. It counts as more only where chance alone does not explain it. Absent: anything."),
		key("max_ks", distance(), func(a *DriftAnalysis) *float64 { return &a.MaxKS },
			"The same for the Kolmogorov-Smirnov distance. Absent: anything."),
		key("min_scores", countShape(1), func(a *DriftAnalysis) *int { return &a.MinScores },
			"How many scores each version needs before that is judged."),
		key("model", optionalTextShape("the name of a model"), func(a *DriftAnalysis) *string { return &a.Model },
			"Which model, where the endpoints serve several. Absent: the only one."),
		key("path", probePathShape(), func(a *DriftAnalysis) *string { return &a.Path },
			"Where every endpoint of both versions tells its windows."),
		key("in_a_row", countShape(1), func(a *DriftAnalysis) *int { return &a.InARow }, inARowDoc),
	}}}
}

func gpuShape() shape[*GPUAnalysis] {
	part := func() shape[float64] {
		inner := fractionShape().(through[float64, float64])
		inner.inner = unlessZero(inner.inner)
		return inner
	}
	return optional[GPUAnalysis]{fresh: DefaultGPUAnalysis, inner: object[GPUAnalysis]{fields: []field[GPUAnalysis]{
		key("max_utilization", part(), func(a *GPUAnalysis) *float64 { return &a.MaxUtilization },
			"The percentage of the time in which the GPU of the busiest endpoint may be at work. Absent: any."),
		key("max_memory", part(), func(a *GPUAnalysis) *float64 { return &a.MaxMemory },
			"The percentage of the memory, of its GPU or of its cache, that the fullest endpoint may use. Absent: any."),
		key("in_a_row", countShape(1), func(a *GPUAnalysis) *int { return &a.InARow }, inARowDoc),
		key("max_age", durationShape(), func(a *GPUAnalysis) *time.Duration { return &a.MaxAge },
			"How old a report may be to count."),
	}}}
}

func experimentAnalysisShape() shape[*ExperimentAnalysis] {
	return optional[ExperimentAnalysis]{fresh: DefaultExperimentAnalysis, inner: object[ExperimentAnalysis]{fields: []field[ExperimentAnalysis]{
		key("margin", fractionShape(), func(a *ExperimentAnalysis) *float64 { return &a.Margin },
			"The percentage of the old version's mean by which the first outcome may be worse at the new one."),
	}}}
}
