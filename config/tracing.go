package config

import (
	"fmt"
	"net/url"
	"time"
)

// Tracing says where the spans of requests go, and of which requests there are any.
type Tracing struct {
	// OTLP is the URL of a collector that takes OTLP over HTTP; without a path it is /v1/traces there.
	OTLP string
	// Percent of the requests whose client has not decided are traced, 0 to 100.
	Percent float64
	// IgnoreParent: what clients have decided does not count.
	IgnoreParent bool
	Service      string // service.name of the spans
	// Headers go with each export.
	Headers []Header
	Timeout time.Duration // for one export
}

// DefaultTracing is one without a collector, which has no default.
func DefaultTracing() Tracing {
	return Tracing{Percent: 1, Service: "weir", Timeout: 10 * time.Second}
}

func tracingShape() shape[*Tracing] {
	return optional[Tracing]{fresh: DefaultTracing, inner: object[Tracing]{fields: []field[Tracing]{
		key("otlp", collectorShape(), func(t *Tracing) *string { return &t.OTLP },
			"The URL of a collector that takes OTLP over HTTP, such as http://otel-collector:4318; without a path it is /v1/traces there.").must(),
		key("percent", percentShape(), func(t *Tracing) *float64 { return &t.Percent },
			"The percentage of requests that are traced, of those whose client has not decided (traceparent). Endpoints are told by the same field."),
		key("ignore_parent", boolShape(), func(t *Tracing) *bool { return &t.IgnoreParent },
			"Decides by percent also where the client has decided. For listeners that strangers reach."),
		key("service", nameShape(), func(t *Tracing) *string { return &t.Service },
			"The name of the service in the spans (service.name)."),
		key("headers", headersWith(checkAnswerField, scalar[string]{
			want: "the value of the header", free: true, format: verbatim, body: textSchema,
			parse: func(s string) (string, error) {
				if !printableASCII(s) {
					return "", fmt.Errorf("%q has characters that no header may have; write printable ASCII", clip(s))
				}
				return s, nil
			},
		}), func(t *Tracing) *[]Header { return &t.Headers },
			"Header fields of each export, such as the collector's key, which a variable can bring (${NAME})."),
		key("timeout", durationShape(), func(t *Tracing) *time.Duration { return &t.Timeout },
			"For one export. What cannot be sent is tried again for a minute, and then dropped."),
	}}}
}

func printableASCII(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

func collectorShape() shape[string] {
	return scalar[string]{
		want: "a URL such as http://otel-collector:4318", free: true, format: verbatim, body: textSchema,
		parse: func(s string) (string, error) {
			u, err := url.Parse(s)
			if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || u.Fragment != "" || u.User != nil {
				return "", fmt.Errorf("%q is no URL; write one such as http://otel-collector:4318", clip(s))
			}
			return s, nil
		},
	}
}
