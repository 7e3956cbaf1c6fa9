package config

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func parseRoute(t *testing.T, keys string) Route {
	t.Helper()
	c, err := parseTest(t, `
listeners: [{address: ":8080"}]
pools: {blue: {endpoints: ["127.0.0.1:8001"]}}
routes: [{name: predict, split: {blue: 1}, `+keys+`}]
`)
	if err != nil {
		t.Fatal(err)
	}
	return c.Routes[0]
}

// TestRetry: what a file leaves out has its default, in a retry that is there as in one that is not.
func TestRetry(t *testing.T) {
	f := func(text string, change func(*Retry)) {
		t.Helper()
		want := DefaultRetry()
		change(&want)
		if diff := cmp.Diff(want, parseRoute(t, text).Retry); diff != "" {
			t.Errorf("%s (-want +got):\n%s", text, diff)
		}
	}
	f("limits: {}", func(*Retry) {})
	f("retry: {}", func(*Retry) {})
	f("retry: {attempts: 3}", func(r *Retry) { r.Attempts = 3 })
	f("retry: off", func(r *Retry) { r.Attempts = 1 })
	f("retry: {attempts: 1, on: [timeout], idempotent: always, budget_percent: 1, backoff: 1s}", func(r *Retry) { r.Attempts = 1 })
	f(`retry: {on: ["503", timeout, 429, connect]}`, func(r *Retry) { r.On, r.Status = []string{"connect", "timeout"}, []int{429, 503} })
	f(`retry: {on: ["${WORD_OF_CI:-reset}", "${CODE:-502}"]}`, func(r *Retry) { r.On, r.Status = []string{"reset"}, []int{502} })
	f("retry: {on: [unavailable, reset, 503, cancelled, resource_exhausted]}", func(r *Retry) {
		r.On, r.Status, r.GRPC = []string{"reset"}, []int{503}, []string{"cancelled", "resource_exhausted", "unavailable"}
	})
	f("retry: {on: [5xx, 404]}", func(r *Retry) {
		r.On, r.Status = nil, []int{404}
		for code := 500; code < 600; code++ {
			r.Status = append(r.Status, code)
		}
	})
}

func TestRateLimit(t *testing.T) {
	f := func(text string, want RateLimit) {
		t.Helper()
		want.Cost, want.MaxKeys = CostRequests, 262144
		if diff := cmp.Diff(&want, parseRoute(t, "rate_limit: "+text).RateLimit); diff != "" {
			t.Errorf("%s (-want +got):\n%s", text, diff)
		}
	}
	f("{rate: 10/s}", RateLimit{Source: "client_ip", Name: "", Rate: 10, Burst: 10})
	f(`{rate: 10/s, burst: 20, key: "header:X-Tenant"}`, RateLimit{Source: "header", Name: "X-Tenant", Rate: 10, Burst: 20})
	f("{rate: 36000/h}", RateLimit{Source: "client_ip", Name: "", Rate: 10, Burst: 10})
	f("{rate: 10.5/s}", RateLimit{Source: "client_ip", Name: "", Rate: 10.5, Burst: 11})
	f("{rate: 0.5/s}", RateLimit{Source: "client_ip", Name: "", Rate: 0.5, Burst: 1})
	f("{rate: 1000000000/s}", RateLimit{Source: "client_ip", Name: "", Rate: 1e9, Burst: 10_000_000})
	if l := parseRoute(t, "limits: {}").RateLimit; l != nil {
		t.Errorf("absent is %+v", l)
	}
}

// TestOutlier: the longest ejection and the first follow each other where the file has only one of them.
func TestOutlier(t *testing.T) {
	f := func(text string, change func(*Outlier)) {
		t.Helper()
		c, err := parseTest(t, fmt.Sprintf(`
listeners: [{address: ":8080"}]
pools: {blue: {endpoints: ["127.0.0.1:8001"]%s}}
routes: [{name: predict, split: {blue: 1}}]
`, text))
		if err != nil {
			t.Fatal(err)
		}
		var want *Outlier
		if change != nil {
			o := DefaultOutlier()
			want = &o
			change(want)
		}
		if diff := cmp.Diff(want, c.Pools[0].Outlier); diff != "" {
			t.Errorf("%s (-want +got):\n%s", text, diff)
		}
	}
	f("", func(*Outlier) {})
	f(", outlier: {}", func(*Outlier) {})
	f(", outlier: off", nil)
	f(", outlier: {failure_percent: 50%, consecutive_failures: 0}", func(o *Outlier) { o.FailurePercent, o.ConsecutiveFailures = 50, 0 })
	f(", outlier: {max_ejection: 10s}", func(o *Outlier) { o.Ejection, o.MaxEjection = 10e9, 10e9 })
	f(", outlier: {ejection: 10m}", func(o *Outlier) { o.Ejection, o.MaxEjection = 600e9, 600e9 })
}
