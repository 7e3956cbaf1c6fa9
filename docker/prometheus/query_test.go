// Programs and scripts are run here, as they are built, without the race detector: under it the same would be seen once more.

//go:build !race

package prometheus_test

import (
	"regexp"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// The parts of PromQL that name no metric: strings, selectors and ranges, and the labels of a grouping or matching.
var (
	promString   = regexp.MustCompile("\"(?:[^\"\\\\]|\\\\.)*\"|'(?:[^'\\\\]|\\\\.)*'|`[^`]*`")
	promSelector = regexp.MustCompile(`\{[^}]*\}|\[[^\]]*\]`)
	promGrouping = regexp.MustCompile(`\b(?:by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)`)
	promWord     = regexp.MustCompile(`\b[a-zA-Z_:][a-zA-Z0-9_:]*(\s*\()?`)
)

// promKeywords are words of PromQL that stand without parentheses.
func promKeywords() []string {
	return []string{"and", "or", "unless", "bool", "offset", "group_left", "group_right", "atan2", "inf", "nan"}
}

// metricsOf returns the metrics that a query names, each once, in order.
func metricsOf(query string) []string {
	for _, part := range []*regexp.Regexp{promString, promSelector, promGrouping} {
		query = part.ReplaceAllString(query, " ")
	}
	var names []string
	for _, m := range promWord.FindAllStringSubmatch(query, -1) {
		function := m[1] != "" // or an aggregation
		if !function && !slices.Contains(promKeywords(), m[0]) && !slices.Contains(names, m[0]) {
			names = append(names, m[0])
		}
	}
	return names
}

func TestMetricsOf(t *testing.T) {
	for query, want := range map[string][]string{
		`up`:                    {"up"},
		`up == 0 or absent(up)`: {"up"},
		`sum by (le, route) (rate(a_bucket{route=~"x|sum",le="1"}[5m])) / ignoring(le) group_left b > 14.4 * scalar(slo:a:budget)`: {"a_bucket", "b", "slo:a:budget"},
		`histogram_quantile(0.95, sum by(le) (rate(a_bucket[$__rate_interval])))`:                                                  {"a_bucket"},
		`abs(a:b:mean1h - a:b:mean1h offset 1d) > 1e-3`:                                                                            {"a:b:mean1h"},
		`label_replace(a > 0, "pool", "$1", "variant", "(.+)") unless on (instance) b > 0`:                                         {"a", "b"},
		`vector(0.001)`:                    nil,
		"{__name__=~\"a|b\"} and c{d='}'}": {"c"},
	} {
		if diff := cmp.Diff(want, metricsOf(query)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", query, diff)
		}
	}
}
