package demo

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"weir/bench"
)

func exampleView() view {
	accuracy := 0.834
	return view{
		at: 75 * time.Second, address: "127.0.0.1:8080", admin: "http://127.0.0.1:9901",
		rate: 200, users: 2000, seen: 1330, moved: 0, seconds: 10,
		rows: []row{
			{
				variant: "blue", version: "v1.0.0", weight: 90, wanted: 0.9, measured: true, users: 1200, modelSays: 0.844,
				line: bench.Line{Share: 1, Rate: 180.04, Errors: 3, Accuracy: &accuracy, Latency: &bench.Quantiles{P50: 0.4126, P95: 1.184, P99: 14.43}},
			},
			{variant: "green", version: "v2.0.0", weight: 10, wanted: 0.1, measured: true, users: 130, modelSays: 0.872},
			{variant: "(none)", line: bench.Line{Rate: 0.5, Errors: 5}},
		},
		notices:  []string{"  6s  the weights are now blue=90 green=10"},
		commands: []string{"bin/weir status -w"},
	}
}

func TestFrame(t *testing.T) {
	want := `weir: two versions of a model behind one address   01:15
200 requests/s from 2000 users to http://127.0.0.1:8080, latest 10 s, latency from when a request was due

  variant  version      weight   share     rate  errors      p50     p95     p99  accuracy  model says  users
     blue   v1.0.0  90 (90.0%)  100.0%  180.0/s       3  0.413ms  1.18ms  14.4ms     83.4%       84.4%   1200
    green   v2.0.0  10 (10.0%)    0.0%    0.0/s       0        -       -       -         -       87.2%    130
   (none)                                 0.5/s       5                                                      

1330 users since the weights were set, 0 of them changed variant

  6s  the weights are now blue=90 green=10

Try in another terminal:
  bin/weir status -w
Ctrl-C stops everything.`
	v := exampleView()
	if diff := cmp.Diff(want, strings.Join(v.frame(), "\n")); diff != "" {
		t.Errorf("frame (-want +got):\n%s", diff)
	}
}

func TestLine(t *testing.T) {
	want := "1m15s | blue v1.0.0 weight 90 share 100.0% 180/s errors 3 p50 0.413ms p95 1.18ms p99 14.4ms accuracy 83.4%" +
		" | green v2.0.0 weight 10 share 0.0% 0/s errors 0 p50 - p95 - p99 - accuracy - | without a variant: errors 5 | users 1330, changed variant 0"
	v := exampleView()
	if diff := cmp.Diff(want, v.line()); diff != "" {
		t.Errorf("line (-want +got):\n%s", diff)
	}
}

// The way up must be as long as the frame before, however narrow the terminal.
func TestScreenRedrawsInPlace(t *testing.T) {
	var out bytes.Buffer
	s := &screen{out: &out, terminal: true, width: func() int { return 20 }}
	s.show(exampleView())
	first := out.String()
	lines := strings.Split(strings.TrimSuffix(first, clearRest), clearLine+"\n")
	lines = lines[:len(lines)-1]
	for _, line := range lines {
		if n := len([]rune(line)); n >= 20 {
			t.Errorf("%q has %d columns of 20, and would wrap", line, n)
		}
	}
	if strings.Contains(first, bold) {
		t.Error("there is color without color")
	}
	out.Reset()
	v := exampleView()
	v.notices = nil
	s.show(v)
	if want := "\r\x1b[15A"; len(lines) != 15 || !strings.HasPrefix(out.String(), want) {
		t.Errorf("the second frame begins with %q after %d lines, want %q after 15", out.String()[:8], len(lines), want)
	}
	if s.drawn != 13 {
		t.Errorf("%d lines drawn without notices, want 13", s.drawn)
	}
}
