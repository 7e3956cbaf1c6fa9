// Package load holds the words a model server uses to say how busy it is: the ORCA load report
// (xds.data.orca.v3.OrcaLoadReport) and its encodings in the response header
// "endpoint-load-metrics". It knows nothing of HTTP and imports nothing of weir.
package load

import (
	"fmt"
	"math"
	"strings"
	"unicode/utf8"
)

// The header fields of a report.
const (
	// RequestHeader asks for a report; its value is a [Format].
	RequestHeader = "endpoint-load-metrics-format"
	// ResponseHeader carries the report; [Parse] reads it.
	ResponseHeader = "endpoint-load-metrics"
	// BinaryResponseHeader carries it as base64 of the protobuf; [ParseBinary] reads it.
	BinaryResponseHeader = "endpoint-load-metrics-bin"
)

// maxMetrics bounds the metrics of one report, so that a hostile header costs little.
const maxMetrics = 128

// Report is how busy one server says it is. As in the protobuf, zero means "not reported".
type Report struct {
	// CPUUtilization is the share of the CPU in use, ≥ 0; more than 1 when over its limit.
	CPUUtilization float64
	// MemUtilization is the share of the memory in use, 0 to 1.
	MemUtilization float64
	// ApplicationUtilization is the share of its capacity the application itself says is in
	// use, ≥ 0; it goes before CPUUtilization where both are reported.
	ApplicationUtilization float64
	// RPS is the requests per second being served ("rps_fractional"), ≥ 0.
	RPS float64
	// EPS is the errors per second, ≥ 0.
	EPS float64
	// RequestCost is what this one request cost, by resource.
	RequestCost []Metric
	// Utilization is the use of further resources, 0 to 1 each.
	Utilization []Metric
	// Named holds the application's own metrics.
	Named []Metric
}

// Metric is one named value.
type Metric struct {
	Name  string
	Value float64
}

// Find returns the value of the metric with this name.
func Find(metrics []Metric, name string) (value float64, ok bool) {
	for i := range metrics {
		if metrics[i].Name == name {
			return metrics[i].Value, true
		}
	}
	return 0, false
}

// Names of the fields and groups in the text and JSON encodings.
const (
	fieldCPU         = "cpu_utilization"
	fieldMem         = "mem_utilization"
	fieldApplication = "application_utilization"
	fieldRPS         = "rps_fractional"
	fieldEPS         = "eps"
	groupCost        = "request_cost"
	groupUtilization = "utilization"
	groupNamed       = "named_metrics"
)

// parser collects the metrics of one report and refuses what no honest report holds.
type parser struct {
	report Report
	seen   []string
}

// set stores a field ("eps") or, with a group before the dot, a metric ("named_metrics.queue").
func (p *parser) set(name string, value float64) error {
	if math.IsNaN(value) || math.IsInf(value, 0) {
		return fmt.Errorf("load report: %s is %v; want a finite number", name, value)
	}
	if !utf8.ValidString(name) {
		return fmt.Errorf("load report: the metric name %q is not UTF-8", name)
	}
	for _, s := range p.seen {
		if s == name {
			return fmt.Errorf("load report: %s occurs twice", name)
		}
	}
	if len(p.seen) == maxMetrics {
		return fmt.Errorf("load report: more than %d metrics", maxMetrics)
	}
	p.seen = append(p.seen, name)

	group, key, grouped := strings.Cut(name, ".")
	if !grouped {
		return p.setField(name, value)
	}
	if key == "" {
		return fmt.Errorf("load report: %s has no name after the dot", name)
	}
	m := Metric{Name: key, Value: value}
	switch group {
	case groupNamed:
		p.report.Named = append(p.report.Named, m)
	case groupCost:
		p.report.RequestCost = append(p.report.RequestCost, m)
	case groupUtilization:
		if value < 0 || value > 1 {
			return fmt.Errorf("load report: %s is %v; want 0 to 1", name, value)
		}
		p.report.Utilization = append(p.report.Utilization, m)
	default:
		return unknownMetric(name)
	}
	return nil
}

func (p *parser) setField(name string, value float64) error {
	limit := math.Inf(1)
	var field *float64
	switch name {
	case fieldCPU:
		field = &p.report.CPUUtilization
	case fieldMem:
		field, limit = &p.report.MemUtilization, 1
	case fieldApplication:
		field = &p.report.ApplicationUtilization
	case fieldRPS:
		field = &p.report.RPS
	case fieldEPS:
		field = &p.report.EPS
	default:
		return unknownMetric(name)
	}
	if value < 0 || value > limit {
		return fmt.Errorf("load report: %s is %v; want 0 to %v", name, value, limit)
	}
	*field = value
	return nil
}

func unknownMetric(name string) error {
	return fmt.Errorf("load report: unknown metric %q (have %s, %s, %s, %s, %s and %s., %s., %s. before a name)",
		name, fieldCPU, fieldMem, fieldApplication, fieldRPS, fieldEPS, groupCost, groupUtilization, groupNamed)
}
