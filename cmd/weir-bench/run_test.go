package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"weir/bench"
)

// report runs weir-bench run with JSON and reads its report.
func report(t *testing.T, args ...string) *bench.Report {
	t.Helper()
	stdout, stderr, code := outcome(t, append([]string{"run", "-o", "json", "--quiet"}, args...)...)
	var r bench.Report
	if err := json.Unmarshal([]byte(stdout), &r); err != nil || code != 0 || stderr != "" {
		t.Fatalf("exit status %d, %v, stderr %q, stdout %.300q", code, err, stderr, stdout)
	}
	return &r
}

func TestRunKeepsItsSchedule(t *testing.T) {
	target := server(t, false)
	trace := file(t, "trace.txt", "0\n0.01\n0.01\n0.1\n")
	for _, tt := range []struct {
		name string
		args []string
		want uint64
		rate float64
	}{
		{"steps, evenly", []string{"--arrivals", "steps", "--steps", "100:100ms,0:50ms,200:100ms", "--even"}, 30, 120},
		{"steps, cut", []string{"--arrivals", "steps", "--steps", "100:100ms,200:1h", "--even", "--duration", "200ms"}, 30, 150},
		{"ramp, evenly", []string{"--arrivals", "ramp", "--rate", "0", "--ramp-to", "400", "--even", "--duration", "200ms"}, 40, 200},
		{"bursts alone", []string{"--arrivals", "bursts", "--rate", "0", "--burst", "10/100ms", "--duration", "250ms"}, 30, 100},
		{"trace", []string{"--arrivals", "trace", "--trace", trace}, 4, 40},
		{"a warm-up does not count", []string{"--arrivals", "constant", "--rate", "100", "--warmup", "100ms", "--duration", "200ms"}, 20, 100},
	} {
		r := report(t, append(tt.args, "--target", target)...)
		if r.Scheduled != tt.want || r.Total.OK != tt.want || r.Rate < tt.rate*0.999 || r.Rate > tt.rate*1.001 {
			t.Errorf("%s: scheduled %d, ok %d, rate %v; want %d, %v", tt.name, r.Scheduled, r.Total.OK, r.Rate, tt.want, tt.rate)
		}
	}
}

// echo is a server that keeps the bodies it gets.
func echo(t *testing.T) (url string, bodies func() []string) {
	t.Helper()
	var mu sync.Mutex
	var got []string
	s := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(r.Body)
		mu.Lock()
		defer mu.Unlock()
		got = append(got, fmt.Sprint(r.URL.Path, " ", string(b), " ", err))
	}))
	t.Cleanup(s.Close)
	return s.URL, func() []string { mu.Lock(); defer mu.Unlock(); return got }
}

func TestRunMakesBodies(t *testing.T) {
	quick := []string{"--arrivals", "constant", "--rate", "100", "--duration", "50ms", "--connections", "1"}
	url, bodies := echo(t)
	report(t, append(quick, "--target", url+"/p", "--template", file(t, "body.tmpl", `{"n":{{seq}}}`))...)
	if got := strings.Join(bodies(), "|"); got != `/p {"n":0} <nil>|/p {"n":1} <nil>|/p {"n":2} <nil>|/p {"n":3} <nil>|/p {"n":4} <nil>` {
		t.Errorf("templates arrive as %q", got)
	}
	url, bodies = echo(t)
	report(t, append(quick, "--target", url, "--model", "m", "--tensor", "x:INT32:1x2", "--tensor", "y:BOOL:1", "--tensors", "binary")...)
	if got := bodies(); len(got) != 5 || !strings.HasPrefix(got[0], `/v2/models/m/infer {"inputs":[{"name":"x","shape":[1,2],"datatype":"INT32","parameters":{"binary_data_size":8}},{"name":"y"`) {
		t.Errorf("tensors arrive as %q", got)
	}
}

func TestRunWritesPagesAndLogs(t *testing.T) {
	dir := t.TempDir()
	page, log := filepath.Join(dir, "report.html"), filepath.Join(dir, "run.hlog")
	stdout, stderr, code := outcome(t, "run", "--target", server(t, false), "--rate", "200", "--duration", "300ms", "--arrivals", "constant",
		"-o", "html", "--html", page, "--hlog", log)
	written, err := os.ReadFile(page)
	if err != nil || code != 0 || stderr != "" {
		t.Fatalf("exit status %d, %v, stderr %q", code, err, stderr)
	}
	if !strings.HasPrefix(stdout, "<!DOCTYPE html>") || !strings.HasSuffix(stdout, "</html>\n") || stdout != string(written) {
		t.Errorf("stdout is %d bytes, the file %d; want the same page", len(stdout), len(written))
	}
	f, err := os.Open(log)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	counts := map[string]int64{}
	for r := hdrhistogram.NewHistogramLogReader(f); ; {
		h, err := r.NextIntervalHistogram()
		if err != nil {
			t.Fatal(err)
		}
		if h == nil {
			break
		}
		counts[h.Tag()] += h.TotalCount()
	}
	if counts[""] != 60 || counts["blue"] != 30 || counts["green"] != 30 {
		t.Errorf("the log holds %v, want 60 answers, half for blue", counts)
	}
}

// A server that serves four at a time, each for 20 ms, has a limit of 200/s, which a search finds.
// A machine under load makes it lower, never higher.
func TestSaturateFindsAKnownLimit(t *testing.T) {
	slots := make(chan struct{}, 4)
	s := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		slots <- struct{}{}
		<-time.After(20 * time.Millisecond)
		<-slots
	}))
	defer s.Close()
	r := report(t, "--target", s.URL, "--saturate", "--arrivals", "constant", "--slo", "120ms", "--rate", "50", "--probe", "400ms", "--precision", "100%")
	found := r.Saturation
	if found == nil || found.Rate < 12 || found.Rate > 240 || found.Upper > 480 {
		t.Fatalf("found %+v, want a limit of about 200/s", found)
	}
	if found.End != "found" || r.Rate != found.Rate || r.Total.OK == 0 || len(found.Probes) < 3 {
		t.Errorf("%+v, report at %v/s with %d answers; want the report of the highest rate kept", found, r.Rate, r.Total.OK)
	}
}

func TestSaturateNothing(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) }))
	defer s.Close()
	stdout, _, code := outcome(t, "run", "--target", s.URL, "--saturate", "--slo", "1s", "--rate", "10", "--max-rate", "10", "--probe", "100ms", "--arrivals", "constant")
	if code != 1 || !strings.Contains(stdout, "no rate keeps p99 ≤ 1.00s and errors ≤ 0.1%") {
		t.Errorf("exit status %d, %q; want 1, and that no rate keeps the objective", code, stdout)
	}
}

// The weights of an admin API are compared with the shares; when they change, nobody can.
func TestRunComparesWithTheWeightsOfTheAdminAPI(t *testing.T) {
	for _, tt := range []struct {
		name        string
		blue        float64
		changing    bool
		verdict, of string
		users       string
	}{
		{"as the weights say", 50, false, bench.SplitPasses, "requests", "0"},
		{"not as the weights say", 90, false, bench.SplitDeviates, "requests", "0"},
		{"changing weights", 50, true, bench.SplitUnknown, "requests", "0"},
		{"users", 50, false, bench.SplitUnknown, "users", "3"}, // too few
	} {
		var asked atomic.Int64
		admin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			generation := int64(1)
			if n := asked.Add(1); tt.changing {
				generation = n
			}
			fmt.Fprintf(w, `{"name":"predict","generation":%d,"variants":[{"pool":"blue","weight":%g},{"pool":"green","weight":%g}]}`, generation, tt.blue, 100-tt.blue)
		}))
		r := report(t, "--target", server(t, false), "--admin", admin.URL, "--users", tt.users,
			"--arrivals", "constant", "--rate", "500", "--duration", "200ms")
		admin.Close()
		if r.Split == nil || r.Split.Verdict != tt.verdict || r.Split.Of != tt.of || asked.Load() < 2 {
			t.Errorf("%s: asked %d times, split %+v; want %s of %s", tt.name, asked.Load(), r.Split, tt.verdict, tt.of)
		}
	}
}

func TestProgressOnATerminalTakesOneLine(t *testing.T) {
	i := &bench.Interval{
		At: 2, Total: bench.Moment{Rate: 100, Errors: 1, Latency: &bench.Quantiles{P50: 1, P99: 2}}, Dropped: 2,
		Variants: []bench.Moment{{Rate: 5}, {Variant: "blue", Rate: 75}},
	}
	const line = "2 s of 30 s  100/s  p50 1.00ms  p99 2.00ms  errors 3/s  blue 75.0%"
	for _, tt := range []struct {
		name     string
		terminal bool
		width    int
		want     string
	}{
		{"no terminal", false, 0, line + "\nkept\n"},
		{"a terminal", true, 200, "\r" + line + "\x1b[K\rkept\x1b[K\n\r\x1b[K"},
		{"a narrow one", true, 5, "\r2 s \x1b[K\rkept\x1b[K\n\r\x1b[K"},
	} {
		var b strings.Builder
		p := &progress{w: &b, terminal: tt.terminal, width: func() int { return tt.width }}
		p.interval(i, 30*time.Second)
		p.keep("kept")
		p.clear()
		if b.String() != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, b.String(), tt.want)
		}
	}
	quiet := newProgress(os.Stderr, true)
	quiet.interval(i, 0) // must not write to nothing
	quiet.keep("kept")
	quiet.clear()
}

func file(t *testing.T, name, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
