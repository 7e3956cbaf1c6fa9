package proxy

import (
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// MirrorPatience sets how long copies may wait for a processor; tests run on machines that are short of them.
func MirrorPatience(o *Options, d time.Duration) { o.mirrorPatience = d }

func TestWholeChunks(t *testing.T) {
	for body, want := range map[string]bool{
		"0\r\n\r\n":                                true,
		"3\r\nabc\r\n0\r\n\r\n":                    true,
		"3\r\nabc\r\n0\r\nX: 1\r\nY: 2\r\n\r\n":    true,
		"3\r\nabc\r\nA\r\n0123456789\r\n0\r\n\r\n": true,
		"5\r\n0\r\n\r\n\r\n":                       false, // the end is data
		"":                                         false,
		"0\r\n":                                    false,
		"3\r\nabc\r\n":                             false,
		"3\r\nab":                                  false,
		"3\r\nabc\r\n0\r\nX: 1\r\n":                false,
		"ffffffff\r\nabc":                          false,
		"fffffffffffffffffffff\r\nabc":             false,
		"x\r\n":                                    false,
	} {
		if got := wholeChunks([]byte(body)); got != want {
			t.Errorf("%q: %v, want %v", body, got, want)
		}
	}
}

func TestMirrorDifferences(t *testing.T) {
	var d mirrorDifferences
	if d.quantile(.5) != nil {
		t.Error("a quantile of nothing")
	}
	near := func(q, want float64) {
		t.Helper()
		got := d.quantile(q)
		if got == nil || *got < want-.05*max(want, -want) || *got > want+.05*max(want, -want) {
			t.Errorf("quantile %v is %v, want %v", q, got, want)
		}
	}
	for i := range 40 {
		d.record(-time.Duration(i+1) * time.Millisecond)
	}
	near(.25, -30)
	near(1, -1)
	for i := range 60 {
		d.record(time.Duration(i+1) * time.Millisecond)
	}
	near(.1, -30)
	near(.5, 10)
	near(.95, 55)

	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(collected{&d})
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	m := families[0].GetMetric()[0]
	var last uint64
	at := map[float64]uint64{}
	for _, b := range m.Histogram.Bucket {
		if b.GetCumulativeCount() < last {
			t.Errorf("%v has fewer than the bucket before", b)
		}
		last = b.GetCumulativeCount()
		at[b.GetUpperBound()] = last
	}
	if at[-.1] != 0 || at[0] != 40 || at[.1] != 100 || m.Histogram.GetSampleCount() != 100 {
		t.Errorf("%v", m.Histogram)
	}
	for _, x := range []struct {
		bound float64
		n     uint64
	}{{-.025, 16}, {-.01, 31}, {.025, 65}} { // within the width of a bucket
		if n := at[x.bound]; n < x.n-2 || n > x.n+2 {
			t.Errorf("%d up to %v, want about %d", n, x.bound, x.n)
		}
	}
	if sum := m.Histogram.GetSampleSum(); sum < 1.009 || sum > 1.011 {
		t.Errorf("sum %v, want 1.01", sum)
	}
}

// collected are differences as a metric.
type collected struct{ *mirrorDifferences }

var differenceDesc = prometheus.NewDesc("difference", "", []string{"route"}, nil)

func (c collected) Describe(ch chan<- *prometheus.Desc) { ch <- differenceDesc }
func (c collected) Collect(ch chan<- prometheus.Metric) { ch <- c.metric(differenceDesc, "r") }

// TestSkippedReasonsAreNames: a reason without a name would be a series nobody can ask for.
func TestSkippedReasonsAreNames(t *testing.T) {
	seen := map[string]bool{}
	for _, name := range skippedReason {
		if name == "" || seen[name] || strings.ToLower(name) != name {
			t.Errorf("reason %q", name)
		}
		seen[name] = true
	}
}
