package compare

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write the golden files anew")

// example has two rounds of weir and nginx; the machine is half as fast in the second, and the
// ratios do not show it.
func example() *Result {
	r := &Result{
		Date: time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC), System: "linux/amd64, 2 processors", Pinned: true, Seconds: 3, Rounds: 2,
		Versions:  map[string]string{Weir: "weir v1", Nginx: "nginx version: nginx/1.22.1"},
		Workloads: map[string]string{"a": "a: POST"},
	}
	add := func(peer string, round int, cpu, p50 float64) {
		r.Measurements = append(r.Measurements, Measurement{
			Peer: peer, Workload: "a", Round: round, CPU: cpu, P50: p50, P99: 10 * p50, Switches: 1.25, Rate: 20_000, Resident: 21_000_000,
		})
	}
	add(Direct, 1, 0, 1)
	add(Nginx, 1, 30, 2)
	add(Weir, 1, 24, 1.5)
	add(Weir, 2, 54, 4)
	add(Direct, 2, 0, 2)
	add(Nginx, 2, 60, 4)
	r.summarize()
	return r
}

func TestRatiosAreWithinARound(t *testing.T) {
	var weir Summary
	for _, s := range example().Summary {
		switch s.Peer {
		case Weir:
			weir = s
		case Nginx:
			if *s.CPURatio != (Spread{1, 1, 1}) {
				t.Errorf("nginx to itself: %+v, want 1", *s.CPURatio)
			}
		case Direct:
			if s.CPURatio != nil || s.P50Ratio != nil {
				t.Errorf("direct has ratios: %+v", s)
			}
		}
	}
	near := func(got *Spread, want Spread) bool {
		return cmp.Equal(*got, want, cmp.Comparer(func(a, b float64) bool { return a-b < 1e-9 && b-a < 1e-9 }))
	}
	if want := (Spread{Median: 0.85, Min: 0.8, Max: 0.9}); !near(weir.CPURatio, want) {
		t.Errorf("weir's CPU ÷ nginx's is %+v, want %+v", *weir.CPURatio, want)
	}
	if want := (Spread{Median: 0.875, Min: 0.75, Max: 1}); !near(weir.P50Ratio, want) {
		t.Errorf("weir's p50 ÷ nginx's is %+v, want %+v", *weir.P50Ratio, want)
	}
	if weir.CPU != 39 {
		t.Errorf("weir's median CPU is %v, want 39", weir.CPU)
	}
}

func TestMiddle(t *testing.T) {
	for _, tt := range []struct {
		values []float64
		want   float64
	}{{nil, 0}, {[]float64{3}, 3}, {[]float64{9, 1}, 5}, {[]float64{9, 1, 2}, 2}} {
		if got := middle(tt.values); got != tt.want {
			t.Errorf("middle(%v) = %v, want %v", tt.values, got, tt.want)
		}
	}
}

func TestText(t *testing.T) {
	var b bytes.Buffer
	if err := example().Text(&b); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join("testdata", "result.txt")
	if *update {
		if err := os.WriteFile(path, b.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), b.String()); diff != "" {
		t.Errorf("%s (-want +got; go test -update writes it anew):\n%s", path, diff)
	}
}

func TestJSON(t *testing.T) {
	var b bytes.Buffer
	if err := example().JSON(&b); err != nil {
		t.Fatal(err)
	}
	var back Result
	if err := json.Unmarshal(b.Bytes(), &back); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(example(), &back); diff != "" {
		t.Errorf("read back (-written +read):\n%s", diff)
	}
}

func TestRunRefuses(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	good := func() Options {
		return Options{Programs: t.TempDir(), Workloads: Workloads()[:1], Peers: Peers(), Rounds: 1, Duration: time.Second, Say: func(string) {}}
	}
	for want, change := range map[string]func(*Options){
		"at least one round":       func(o *Options) { o.Rounds = 0 },
		"positive duration":        func(o *Options) { o.Duration = 0 },
		"nginx must be":            func(o *Options) { o.Peers = []string{Weir} },
		"weir-bench: no such file": func(*Options) {},
	} {
		o := good()
		change(&o)
		if _, err := Run(context.Background(), o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want one with %q", err, want)
		}
	}
	if w, err := Find([]string{"z"}); err == nil {
		t.Errorf("workload z is %v", w)
	}
}
