//go:build !race

package bench

import (
	"testing"
	"time"
)

// What the generator does for every request allocates nothing: its collections would be pauses
// in everybody's latency. The race detector's own allocations would count, hence the build tag.
func TestNoAllocationPerRequest(t *testing.T) {
	pacer := func(s Schedule) Pacer {
		p, err := s.Pacer()
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	pacers := map[string]Pacer{
		"constant": Constant(1000),
		"poisson":  Poisson(1000, 1),
		"ramp":     pacer(Schedule{Arrivals: "ramp", RampTo: 10, Over: time.Hour}),
		"steps":    pacer(Schedule{Arrivals: "steps", Steps: []Step{{10, time.Hour}}}),
		"bursts":   pacer(Schedule{Arrivals: "bursts", Rate: 10, Burst: Burst{10, time.Second}}),
	}
	for name, p := range pacers {
		if n := testing.AllocsPerRun(1000, func() { p.Next() }); n != 0 {
			t.Errorf("pacer %s: %v allocations", name, n)
		}
	}
	targets := map[string]Target{
		"template": filled(t, 10, `{"id":"{{uuid}}","user":"{{user}}","n":{{seq}},"x":[{{floats 10 0 1}}],"k":{{int 0 9}},"w":"{{pick a b}}"}`),
		"tensors":  tensors(t, true, "x:FP32:1x784"),
	}
	for name, target := range targets {
		var b []byte
		n := uint64(0)
		if allocs := testing.AllocsPerRun(1000, func() { b, _ = target.Append(b[:0], n); n++ }); allocs != 0 {
			t.Errorf("target %s: %v allocations", name, allocs)
		}
	}
	tally, result := NewTally(time.Second), Result{Done: time.Millisecond, Status: 200, Variant: []byte("blue"), User: -1}
	if n := testing.AllocsPerRun(1000, func() { tally.Add(&result) }); n != 0 {
		t.Errorf("tally: %v allocations", n)
	}
}

func BenchmarkTemplate(b *testing.B) {
	target, err := NewTemplate(Request{URL: "http://127.0.0.1:1", Seed: 1}, `{"id":"{{uuid}}","x":[{{floats 10 0 1}}]}`)
	if err != nil {
		b.Fatal(err)
	}
	var request []byte
	for n := uint64(0); b.Loop(); n++ {
		request, _ = target.Append(request[:0], n)
	}
}
