// Package load holds the words a model server uses to say how busy it is: the ORCA load report
// (xds.data.orca.v3.OrcaLoadReport) and its encodings in the response header
// "endpoint-load-metrics". It knows nothing of HTTP and imports nothing of weir.
package load

import (
	"fmt"
	"math"
	"slices"
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

// Parser reads reports into memory that it uses again, so that who reads many of them allocates nothing for those in
// the encodings text and binary. Its zero value is ready. It is not safe for concurrent use.
type Parser struct {
	report Report
	seen   []name
	raw    []byte // a protobuf, without its base64
}

// name is that of a field ("", "eps") or of a metric of a group ("named_metrics", "queue").
type name struct{ group, key string }

func (n name) String() string {
	if n.group == "" {
		return n.key
	}
	return n.group + "." + n.key
}

func (p *Parser) reset() {
	r := &p.report
	p.report = Report{RequestCost: r.RequestCost[:0], Utilization: r.Utilization[:0], Named: r.Named[:0]}
	p.seen = p.seen[:0]
}

// set stores a value, and refuses what no honest report holds.
func (p *Parser) set(n name, value float64) error {
	if math.IsNaN(value) || math.IsInf(value, 0) {
		return fmt.Errorf("load report: %s is %v; want a finite number", n, value)
	}
	if !utf8.ValidString(n.key) || !utf8.ValidString(n.group) {
		return fmt.Errorf("load report: the metric name %q is not UTF-8", n)
	}
	if slices.Contains(p.seen, n) {
		return fmt.Errorf("load report: %s occurs twice", n)
	}
	if len(p.seen) == maxMetrics {
		return fmt.Errorf("load report: more than %d metrics", maxMetrics)
	}
	p.seen = append(p.seen, n)
	if n.group == "" {
		return p.setField(n, value)
	}
	if n.key == "" {
		return fmt.Errorf("load report: %s has no name after the dot", n)
	}
	m := Metric{Name: n.key, Value: value}
	switch n.group {
	case groupNamed:
		p.report.Named = append(p.report.Named, m)
	case groupCost:
		p.report.RequestCost = append(p.report.RequestCost, m)
	case groupUtilization:
		if value < 0 || value > 1 {
			return fmt.Errorf("load report: %s is %v; want 0 to 1", n, value)
		}
		p.report.Utilization = append(p.report.Utilization, m)
	default:
		return unknownMetric(n)
	}
	return nil
}

func (p *Parser) setField(n name, value float64) error {
	limit := math.Inf(1)
	var field *float64
	switch n.key {
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
		return unknownMetric(n)
	}
	if value < 0 || value > limit {
		return fmt.Errorf("load report: %s is %v; want 0 to %v", n, value, limit)
	}
	*field = value
	return nil
}

func unknownMetric(n name) error {
	return fmt.Errorf("load report: unknown metric %q (have %s, %s, %s, %s, %s and %s., %s., %s. before a name)",
		n.String(), fieldCPU, fieldMem, fieldApplication, fieldRPS, fieldEPS, groupCost, groupUtilization, groupNamed)
}
