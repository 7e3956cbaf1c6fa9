package compare

import (
	"bytes"
	"context"
	"flag"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write the golden files anew")

// example has two rounds of all proxies; the machine is half as fast in the second, and the ratios
// do not show it.
func example() *Result {
	r := &Result{
		Date: time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC), System: "linux/amd64, 2 processors", Pinned: true, Quota: 0.6, Seconds: 3, Rounds: 2,
		Versions: map[string]string{Weir: "weir v1", WeirGoroutine: "weir v1", Nginx: "nginx version: nginx/1.22.1"},
		Workloads: []Load{
			{Name: "a", Title: "64 connections", Detail: "64 connections; POST", Closed: true},
			{Name: "idle", Title: "beside 9500 idle connections", Detail: "beside 9500 idle connections; POST", Closed: true, Idle: 9500},
		},
		Notes: []string{"idle: 9500 idle connections instead of 10000"},
	}
	add := func(peer string, round int, cpu, p50 float64) {
		for _, w := range r.Workloads {
			m := Measurement{
				Peer: peer, Workload: w.Name, Round: round, CPU: cpu, P50: p50, P99: 10 * p50, Switches: 1.25, Rate: 20_000, Resident: 21_000_000,
				ProxyBusy: 0.6, LoadBusy: 0.8,
			}
			if w.Idle > 0 {
				m.IdleBytes = 1000 * cpu
			}
			if round == 1 && peer != Direct {
				m.Calls, m.CallsBy = 4.25, "tracepoint"
			}
			r.Measurements = append(r.Measurements, m)
		}
	}
	add(Direct, 1, 0, 1)
	add(Nginx, 1, 30, 2)
	add(HAProxy, 1, 24, 2)
	add(Weir, 1, 24, 1.5)
	add(Weir, 2, 54, 4)
	add(WeirGoroutine, 1, 30, 2)
	add(WeirGoroutine, 2, 60, 4)
	add(Direct, 2, 0, 2)
	add(Nginx, 2, 60, 4)
	add(HAProxy, 2, 60, 4)
	for i := range r.Measurements {
		switch m := &r.Measurements[i]; m.Peer {
		case HAProxy:
			m.ProxyBusy = 0.3
			m.CallsBy = "strace"
		case WeirGoroutine:
			m.LoadBusy, m.Calls, m.CallsBy = 1, 0, "none: not permitted"
		}
	}
	r.summarize()
	return r
}

func TestRatiosAreWithinARound(t *testing.T) {
	r := example()
	weir := r.find("a", Weir)
	if nginx := r.find("a", Nginx); *nginx.CPURatio != (Spread{1, 1, 1}) {
		t.Errorf("nginx to itself: %+v, want 1", *nginx.CPURatio)
	}
	if direct := r.find("a", Direct); direct.CPURatio != nil || direct.P50Ratio != nil || direct.CPUToHAProxy != nil {
		t.Errorf("direct has ratios: %+v", direct)
	}
	near := func(got *Spread, want Spread) bool {
		return cmp.Equal(*got, want, cmp.Comparer(func(a, b float64) bool { return a-b < 1e-9 && b-a < 1e-9 }))
	}
	if want := (Spread{Median: 0.85, Min: 0.8, Max: 0.9}); !near(weir.CPURatio, want) {
		t.Errorf("weir's CPU ÷ nginx's is %+v, want %+v", *weir.CPURatio, want)
	}
	if want := (Spread{Median: 0.95, Min: 0.9, Max: 1}); !near(weir.CPUToHAProxy, want) {
		t.Errorf("weir's CPU ÷ HAProxy's is %+v, want %+v", *weir.CPUToHAProxy, want)
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

// The golden files are what a person reads.
func TestOutputs(t *testing.T) {
	for format, file := range map[string]string{"text": "result.txt", "markdown": "result.md"} {
		var b bytes.Buffer
		if err := example().Write(&b, format); err != nil {
			t.Fatal(err)
		}
		path := filepath.Join("testdata", file)
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
	if err := example().Write(io.Discard, "pdf"); err == nil {
		t.Error("writes PDF")
	}
}

func TestPageNeedsNothingBesideIt(t *testing.T) {
	r := example()
	r.note("<script>alert(1)</script>")
	var b bytes.Buffer
	if err := r.Write(&b, "html"); err != nil {
		t.Fatal(err)
	}
	page := b.String()
	for part, times := range map[string]int{"<svg": 3, "<table": 2, "0.85 (0.80–0.90)": 2, "39.0 KB": 1, "doubt: ": 0, "had 30 %": 0, "used 30 %": 2} {
		if got := strings.Count(page, part); got != times {
			t.Errorf("the page has %d times %q, want %d", got, part, times)
		}
	}
	for _, bad := range []string{"<script>alert", "http://", "https://", "src=", "<link"} {
		if strings.Contains(page, bad) {
			t.Errorf("the page has %q", bad)
		}
	}
}

func TestReadTakesWhatWasWritten(t *testing.T) {
	var b bytes.Buffer
	if err := example().JSON(&b); err != nil {
		t.Fatal(err)
	}
	back, err := Read(&b)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(example(), back); diff != "" {
		t.Errorf("read back (-written +read):\n%s", diff)
	}
	for _, text := range []string{"", "no JSON", "{}"} {
		if r, err := Read(strings.NewReader(text)); err == nil {
			t.Errorf("%q is read as %+v", text, r)
		}
	}
}

func TestSplice(t *testing.T) {
	document := "# weir\n" + TablesBegin + "\nold\n" + TablesEnd + "\nrest\n"
	got, err := Splice([]byte(document), TablesBegin, TablesEnd, []byte("new\n"))
	if want := strings.Replace(document, "old", "new", 1); err != nil || string(got) != want {
		t.Errorf("%q, %v; want %q", got, err, want)
	}
	for _, bad := range []string{"", TablesEnd + "\n" + TablesBegin + "\n", TablesBegin + "\n"} {
		if got, err := Splice([]byte(bad), TablesBegin, TablesEnd, nil); err == nil {
			t.Errorf("%q becomes %q", bad, got)
		}
	}
}

// The README's tables are those of the benchmark's figures beside it, so neither rots.
func TestReadmeShowsTheBenchmark(t *testing.T) {
	root := filepath.Join("..", "..")
	readme, err := os.ReadFile(filepath.Join(root, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	figures, err := os.Open(filepath.Join(root, "docs", "benchmark.json"))
	if shows := bytes.Contains(readme, []byte(TablesBegin+"\n")); shows != (err == nil) {
		t.Fatalf("the README has a place for the tables: %v, the figures: %v", shows, err)
	}
	if err != nil {
		return // neither is there
	}
	defer figures.Close()
	result, err := Read(figures)
	if err != nil {
		t.Fatal(err)
	}
	var tables bytes.Buffer
	if err := result.Markdown(&tables); err != nil {
		t.Fatal(err)
	}
	want, err := Splice(readme, TablesBegin, TablesEnd, tables.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(readme)); diff != "" {
		t.Errorf("README.md does not show docs/benchmark.json (-want +got), make bench-readme mends it:\n%s", diff)
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
		"at least one workload":    func(o *Options) { o.Workloads = nil },
		"quota 1.5":                func(o *Options) { o.Quota = 1.5 },
		"one of direct, nginx":     func(o *Options) { o.Peers = []string{Nginx, "apache"} },
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
