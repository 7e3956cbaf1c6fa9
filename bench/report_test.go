package bench

import (
	"bytes"
	"encoding/json"
	"flag"
	"math"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

var update = flag.Bool("update", false, "write the golden files anew")

// sample is a tally of 1,000 requests over 10 s at known latencies: blue's are 1 to 900 ms, all
// ok and 90 % right; green's 100 have latencies of 1 to 100 ms, and its last ten fail.
func sample() *Tally {
	t := NewTally(50 * time.Millisecond)
	for i := range 900 {
		done := time.Duration(i+1) * time.Millisecond
		verdict := Right
		if i%10 == 0 {
			verdict = Wrong
		}
		t.Add(&Result{Done: done, Sent: 20 * time.Microsecond, Status: 200, Variant: []byte("blue"), Verdict: verdict, User: i, Bytes: 100})
	}
	for i := range 100 {
		r := Result{Done: time.Duration(i+1) * time.Millisecond, Sent: 20 * time.Microsecond, Status: 200, Variant: []byte("green"), User: 900 + i}
		if i >= 90 {
			r.Status = 503
		}
		t.Add(&r)
	}
	t.Add(&Result{Done: time.Millisecond, Failure: Connect, User: -1})
	t.Add(&Result{Sent: 2 * time.Second, Done: 12 * time.Second, Queued: true, Failure: Timeout, User: -1})
	t.Add(&Result{Failure: Unfinished, User: -1})
	for range 7 {
		t.Drop()
	}
	t.Connections = 70
	return t
}

func sampleReport() *Report {
	r := Summarize(sample(), 10*time.Second)
	r.Target, r.Arrivals, r.Rate, r.Seed, r.Connections = "http://127.0.0.1:8080/predict", ArrivalsPoisson, 101, 1, 64
	r.Users = &Users{Total: 1000, Seen: 1000, ByVariant: map[string]uint64{"blue": 900, "green": 100}}
	return r
}

// fullReport has all that a report can have.
func fullReport() *Report {
	r := sampleReport()
	r.Warmup = 2.5
	r.Users.Moved = 3
	r.Split = CheckSplit("users", r.Users.ByVariant, map[string]float64{"blue": 80, "green": 20})
	busy := 0.97
	r.Generator = &Generator{CPU: 1, Cores: 0.1, PerRequest: 99.6, Processors: 2, MachineBusy: &busy, Collections: 3, GCPause: 0.2}
	r.Generator.Limits = limits(r)
	var l Timeline
	l.Add(sample(), 0, time.Second)
	l.Add(NewTally(0), time.Second, 2*time.Second)
	l.Add(sample(), 2*time.Second, 3*time.Second)
	r.Series = l.Intervals
	ms := 1.5
	r.Saturation = &Saturation{Rate: 100, Upper: 104, End: "found", SLO: 50, Quantile: 99, Errors: 0.001, Probes: []Probe{
		{Rate: 100, Answered: 99.5, Latency: &ms, Lag: 0.1, Kept: true},
		{Rate: 104, ErrorRatio: 1, Why: "nothing was answered", Limits: []string{"the generator was late"}},
	}}
	return r
}

func TestSummarize(t *testing.T) {
	r := sampleReport()
	if r.Scheduled != 1010 || r.Dropped != 7 || r.Total.Requests != 1002 || r.Total.Unfinished != 1 || r.Total.Late != 1 {
		t.Errorf("scheduled %d, dropped %d, requests %d, unfinished %d, late %d; want 1010, 7, 1002, 1, 1",
			r.Scheduled, r.Dropped, r.Total.Requests, r.Total.Unfinished, r.Total.Late)
	}
	wantKinds := map[string]uint64{"503": 10, "connect": 1, "timeout": 1, "dropped": 7}
	if diff := cmp.Diff(wantKinds, r.Total.ByKind); diff != "" {
		t.Errorf("errors by kind (-want +got):\n%s", diff)
	}
	if want := 19.0 / 1009; r.Total.Errors != 19 || math.Abs(r.Total.ErrorRatio-want) > 1e-9 {
		t.Errorf("errors %d, ratio %v; want 19, %v", r.Total.Errors, r.Total.ErrorRatio, want)
	}
	if len(r.Variants) != 3 || r.Variants[1].Variant != "blue" || r.Variants[2].Variant != "green" {
		t.Fatalf("variants %+v; want none, blue, green", r.Variants)
	}
	blue := r.Variants[1]
	if blue.Share != 0.9 || blue.Rate != 90 || blue.Goodput != 5 || *blue.Accuracy != 0.9 || blue.Bytes != 90_000 {
		t.Errorf("blue: share %v, rate %v, goodput %v, accuracy %v, bytes %d; want 0.9, 90, 5, 0.9, 90000",
			blue.Share, blue.Rate, blue.Goodput, *blue.Accuracy, blue.Bytes)
	}
	want := Quantiles{P50: 450, P90: 810, P95: 855, P99: 891, P999: 900, Max: 900}
	near := cmp.Comparer(func(a, b float64) bool { return math.Abs(a-b) <= 1e-3*b+1e-3 })
	if diff := cmp.Diff(want, *blue.Latency, near); diff != "" {
		t.Errorf("blue's latency (-want +got):\n%s", diff)
	}
	// A 503 is answered fast; it must not make green look faster than its good answers.
	if got := r.Variants[2].Latency.Max; math.Abs(got-90) > 0.1 {
		t.Errorf("green's slowest good answer took %v ms, want 90", got)
	}
}

// Merging tallies is the same as adding everything to one.
func TestMergeIsAddition(t *testing.T) {
	one, parts := sample(), NewTally(50*time.Millisecond)
	parts.Merge(sample())
	if diff := cmp.Diff(Summarize(one, time.Second), Summarize(parts, time.Second)); diff != "" {
		t.Errorf("merged differs (-one +merged):\n%s", diff)
	}
	parts.Merge(sample())
	if got, want := parts.Total().Requests, 2*one.Total().Requests; got != want {
		t.Errorf("merged twice: %d requests, want %d", got, want)
	}
	parts.Reset()
	if diff := cmp.Diff(Summarize(NewTally(50*time.Millisecond), time.Second), Summarize(parts, time.Second)); diff != "" {
		t.Errorf("a reset tally is not empty (-new +reset):\n%s", diff)
	}
}

func TestText(t *testing.T) {
	var b bytes.Buffer
	if err := sampleReport().Text(&b); err != nil {
		t.Fatal(err)
	}
	golden(t, "report.txt", b.Bytes())
	b.Reset()
	if err := fullReport().Text(&b); err != nil {
		t.Fatal(err)
	}
	golden(t, "full.txt", b.Bytes())
}

func TestJSON(t *testing.T) {
	var b bytes.Buffer
	if err := sampleReport().JSON(&b); err != nil {
		t.Fatal(err)
	}
	golden(t, "report.json", b.Bytes())
	var back Report
	if err := json.Unmarshal(b.Bytes(), &back); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(sampleReport(), &back, cmpopts.IgnoreFields(Line{}, "Distribution", "ServiceDistribution")); diff != "" {
		t.Errorf("read back (-written +read):\n%s", diff)
	}
}

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s (-want +got; go test -update writes it anew):\n%s", path, diff)
	}
}

func TestThresholds(t *testing.T) {
	r, empty := sampleReport(), Summarize(NewTally(0), time.Second)
	tests := []struct {
		name   string
		limits Thresholds
		report *Report
		broken int
	}{
		{"none", Thresholds{MaxErrorRatio: -1}, r, 0},
		{"kept", Thresholds{MaxErrorRatio: 0.02, MaxP99: 20_000}, r, 0},
		{"errors", Thresholds{MaxErrorRatio: 0.018}, r, 1},
		{"no error allowed", Thresholds{MaxErrorRatio: 0}, r, 1},
		{"both", Thresholds{MaxErrorRatio: 0, MaxP99: 100}, r, 2},
		{"rates kept", Thresholds{MaxErrorRatio: -1, MinRate: 99, MinGoodput: 10, Split: true}, r, 0},
		{"rates broken", Thresholds{MaxErrorRatio: -1, MinRate: 99.1, MinGoodput: 10.1}, r, 2},
		{"split broken", Thresholds{MaxErrorRatio: -1, Split: true}, fullReport(), 1},
		{"split not asked for", Thresholds{MaxErrorRatio: -1}, fullReport(), 0},
		{"no rate at all", Thresholds{MaxErrorRatio: -1, MinRate: 1}, Summarize(NewTally(0), 0), 1},
		{"nothing answered", Thresholds{MaxErrorRatio: 0, MaxP99: 100}, empty, 1},
	}
	for _, tt := range tests {
		if got := tt.limits.Check(tt.report); len(got) != tt.broken {
			t.Errorf("%s: %q, want %d complaints", tt.name, got, tt.broken)
		}
	}
}

func TestParseField(t *testing.T) {
	if got, err := ParseField("X-A:  b: c "); err != nil || got != (Field{"X-A", "b: c"}) {
		t.Errorf("ParseField = %+v, %v", got, err)
	}
	for _, bad := range []string{"", "X-A", ": b", "X A: b", "X-A: b\r\nX-B: c"} {
		if got, err := ParseField(bad); err == nil {
			t.Errorf("ParseField(%q) = %+v, want an error", bad, got)
		}
	}
}

func TestNewFixedRefuses(t *testing.T) {
	for _, r := range []Request{
		{URL: "ftp://127.0.0.1/"}, {URL: "127.0.0.1:80"}, {URL: "http:///x"}, {URL: "http://a b/"},
		{URL: "http://127.0.0.1", Method: "G T"}, {URL: "http://127.0.0.1", Users: -1}, {URL: "http://127.0.0.1", Users: MaxUsers + 1},
		{URL: "http://127.0.0.1", Header: []Field{{"Content-Length", "5"}}},
	} {
		if _, err := NewFixed(r, nil); err == nil {
			t.Errorf("NewFixed(%+v) is accepted", r)
		}
	}
}
