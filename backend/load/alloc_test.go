//go:build !race

package load

import (
	"encoding/base64"
	"strings"
	"testing"
	"time"
)

// TestParserAllocatesNothing: a report may come with every answer. The race detector allocates on its own account.
func TestParserAllocatesNothing(t *testing.T) {
	full := Report{
		CPUUtilization: 0.3, ApplicationUtilization: 1.25, RPS: 10.5, EPS: 1,
		Utilization: []Metric{{"gpu.0", 0.5}}, Named: []Metric{{"in_flight", 3}, {"queue", 0}},
	}
	text := full.Append(nil, Text)
	binary := []byte(base64.StdEncoding.EncodeToString(full.AppendProtobuf(nil)))
	inText := append([]byte("BIN "), binary...)
	var p Parser
	f := func(name string, parse func() (*Report, error)) {
		t.Helper()
		parse() // makes room
		if n := testing.AllocsPerRun(100, func() {
			if r, err := parse(); err != nil || r.RPS != 10.5 || len(r.Named) != 2 {
				t.Fatal(r, err)
			}
		}); n != 0 {
			t.Errorf("%s: %v allocations, want none", name, n)
		}
	}
	f("text", func() (*Report, error) { return p.Parse(text) })
	f("binary", func() (*Report, error) { return p.ParseBinary(binary) })
	f("binary in text", func() (*Report, error) { return p.Parse(inText) })
}

// TestReaderAllocatesNothing: metrics of many servers are read each second.
func TestReaderAllocatesNothing(t *testing.T) {
	for _, preset := range []string{"triton", "dcgm", "tf-serving"} {
		r, text, buf, now := NewReader(preset, nil), sample(t, preset), make([]byte, 32<<10), time.Now()
		from := strings.NewReader(text)
		step := func() {
			from.Reset(text)
			now = now.Add(time.Second)
			if _, err := r.Read(from, buf, 1<<20, now); err != nil {
				t.Fatal(err)
			}
		}
		step() // makes room
		if n := testing.AllocsPerRun(100, step); n != 0 {
			t.Errorf("%s: %v allocations, want none", preset, n)
		}
	}
}

func BenchmarkParseText(b *testing.B) {
	r := Report{ApplicationUtilization: 0.31, RPS: 1210.5, Named: []Metric{{"in_flight", 3}, {"queue", 0}}}
	text := r.Append(nil, Text)
	var p Parser
	b.ReportAllocs()
	for b.Loop() {
		if _, err := p.Parse(text); err != nil {
			b.Fatal(err)
		}
	}
}
