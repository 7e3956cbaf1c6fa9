package experiment

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var t0 = time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC)

func aPlan(outcomes ...Outcome) *Plan {
	if outcomes == nil {
		outcomes = []Outcome{{Name: "success", Source: FromStatus}}
	}
	return &Plan{Arms: []string{"blue", "green"}, Salt: "predict", Outcomes: outcomes, Alpha: 0.05, Expect: 2000}
}

func key(n int) []byte { return binary.BigEndian.AppendUint64(nil, uint64(n)) }

// TestEnrol: layers and hold-outs are of the size that was asked for, exclude each other where they should, and are
// independent where they should.
func TestEnrol(t *testing.T) {
	const units = 100_000
	first, second, held := aPlan(), aPlan(), aPlan()
	first.Layer.Name, first.Layer.To = "ranking", 0.5
	second.Layer.Name, second.Layer.From, second.Layer.To = "ranking", 0.5, 1
	second.Salt = "rank"
	held.HoldOut = 0.2
	other := *held
	other.Salt = "other"
	var inFirst, both, inHeld, inBothHeld, firstAndHeld int
	for i := range units {
		a, b, h := first.Enrol(key(i)), second.Enrol(key(i)), held.Enrol(key(i))
		if a == ReasonHash {
			inFirst++
		} else if a != ReasonLayer {
			t.Fatal(a)
		}
		if a == ReasonHash && b == ReasonHash || a != ReasonHash && b != ReasonHash {
			both++
		}
		if h == ReasonHoldOut {
			inHeld++
			if other.Enrol(key(i)) == ReasonHoldOut {
				inBothHeld++
			}
			if a == ReasonHash {
				firstAndHeld++
			}
		}
	}
	near := func(what string, got int, share float64) {
		t.Helper()
		if sd := math.Sqrt(units * share * (1 - share)); math.Abs(float64(got)-units*share) > 5*sd {
			t.Errorf("%s: %d of %d units, want %.3g", what, got, units, share)
		}
	}
	near("half of a layer", inFirst, 0.5)
	near("held out", inHeld, 0.2)
	near("held out of two experiments", inBothHeld, 0.04)
	near("in the layer and held out of another", firstAndHeld, 0.1)
	if both != 0 {
		t.Errorf("%d units are in both halves of a layer, or in none", both)
	}
}

// TestLedgerCountsUnits: a unit counts once, in the arm that it met first, with the mean of its values.
func TestLedgerCountsUnits(t *testing.T) {
	p := aPlan(Outcome{Name: "success", Source: FromStatus}, Outcome{Name: "latency", Source: FromLatency, Decrease: true})
	l := NewLedger(p, []float64{1, 1}, t0)
	if !l.Expose(1, "a", 0, t0) || l.Expose(1, "b", 0, t0) || !l.Expose(2, "c", 1, t0) {
		t.Error("the first exposures are not those of new units")
	}
	for _, v := range []float64{1, 0, 1} {
		l.Observe(1, 0, 0, v)
	}
	l.Observe(2, 1, 0, 1)
	l.Observe(3, 0, 0, 0)        // never exposed
	if l.Expose(2, "d", 0, t0) { // it meets another arm, by a request from before the epoch
		t.Error("a unit is new twice")
	}
	l.Observe(2, 0, 0, 0) // at an arm that is not its own
	l.Exclude(ReasonForced)
	r := l.Result()
	blue, green := r.Arms[0], r.Arms[1]
	if blue.Units != 1 || blue.Requests != 2 || *blue.Outcomes[0].Mean != 2.0/3 || green.Units != 1 || green.Requests != 1 || *green.Outcomes[0].Mean != 1 ||
		r.Switched != 1 || r.Excluded["forced"] != 1 || blue.Outcomes[1].Mean != nil || green.Outcomes[0].Effect != nil || r.Epochs != 1 {
		text, _ := json.MarshalIndent(r, "", " ")
		t.Errorf("%s", text)
	}
}

// TestLedgerReports: outcomes that are told later find the unit of their request, once, and within the window.
func TestLedgerReports(t *testing.T) {
	p := aPlan(Outcome{Name: "bought", Source: FromAPI, Sum: true, Window: time.Hour})
	l := NewLedger(p, []float64{1, 1}, t0)
	l.Expose(7, "r1", 1, t0)
	l.Expose(7, "r2", 1, t0)
	l.Expose(8, "r3", 1, t0)
	for _, c := range []struct {
		id, outcome string
		after       time.Duration
		refused     bool
	}{
		{"r1", "bought", time.Minute, false},
		{"r1", "bought", time.Minute, true},
		{"r2", "bought", time.Minute, false},
		{"r3", "bought", 2 * time.Hour, true},
		{"r4", "bought", time.Minute, true},
		{"r3", "sold", time.Minute, true},
	} {
		if err := l.Report(c.id, c.outcome, 1, t0.Add(c.after)); (err != nil) != c.refused {
			t.Errorf("%s %s after %v: %v", c.id, c.outcome, c.after, err)
		}
	}
	if o := l.Result().Arms[1].Outcomes[0]; o.Units != 2 || *o.Mean != 1 { // 2 of one unit, nothing of the other
		t.Errorf("%d units, mean %v", o.Units, *o.Mean)
	}
}

// TestLedgerIsBounded: what is beyond the bounds is forgotten and counted, and epochs become few.
func TestLedgerIsBounded(t *testing.T) {
	p := aPlan(Outcome{Name: "bought", Source: FromAPI, Sum: true})
	p.Units, p.Requests = 1600, 1600
	l := NewLedger(p, []float64{1, 1}, t0)
	for i := range 10_000 {
		l.Expose(p.Unit(key(i)), fmt.Sprint(i), i%2, t0)
	}
	units, requests := 0, 0
	for i := range l.shards {
		units += l.shards[i].units.Len()
		requests += l.shards[i].requests.Len()
	}
	r := l.Result()
	if units > 1600 || requests > 1600 || units < 1500 || r.Forgotten != uint64(10_000-units) || r.Arms[0].Units+r.Arms[1].Units != 10_000 {
		t.Errorf("%d units, %d requests, %d forgotten", units, requests, r.Forgotten)
	}
	for i := range 3 * mostEpochs {
		l.Reweigh([]float64{2 + float64(i%2), 1}, t0)
		l.Reweigh([]float64{2 + float64(i%2), 1}, t0) // the same again is no other
	}
	l.Expose(p.Unit(key(20_000)), "", 0, t0)
	if r := l.Result(); len(l.epochs) > mostEpochs || len(l.epochs) < keptEpochs || r.Arms[0].Units+r.Arms[1].Units != 10_001 || r.Epochs != 2 {
		t.Errorf("%d epochs, %d units, %d of them with any", len(l.epochs), r.Arms[0].Units+r.Arms[1].Units, r.Epochs)
	}
}

// TestLedgerSurvives: a record goes through JSON, and is refused by another plan.
func TestLedgerSurvives(t *testing.T) {
	p := aPlan()
	l := NewLedger(p, []float64{9, 1}, t0)
	for i := range 3000 {
		id := p.Unit(key(i))
		arm := min(1, i%10/9)
		l.Expose(id, "", arm, t0)
		l.Observe(id, arm, 0, float64(min(1, i%7)))
		if i == 1500 {
			l.Reweigh([]float64{8, 1}, t0.Add(time.Hour))
		}
	}
	l.Exclude(ReasonFallback)
	text, err := json.Marshal(l.Save())
	if err != nil {
		t.Fatal(err)
	}
	var record Record
	if err := json.Unmarshal(text, &record); err != nil {
		t.Fatal(err)
	}
	again := Restore(p, record, []float64{8, 1}, t0.Add(2*time.Hour))
	if diff := cmp.Diff(l.Result(), again.Result()); diff != "" {
		t.Error(diff)
	}
	if len(again.epochs) != 3 {
		t.Errorf("%d epochs; the restart begins one", len(again.epochs))
	}
	if other := aPlan(p.Outcomes[0], Outcome{Name: "latency", Source: FromLatency}); Restore(other, record, []float64{9, 1}, t0) != nil {
		t.Error("a record of one outcome is taken for one of two")
	}
}

// TestLedgerAtOnce has many goroutines at it, for the race detector, and loses nothing.
func TestLedgerAtOnce(t *testing.T) {
	p := aPlan(Outcome{Name: "success", Source: FromStatus}, Outcome{Name: "bought", Source: FromAPI, Sum: true})
	l := NewLedger(p, []float64{1, 1}, t0)
	const each, many = 500, 8
	var all sync.WaitGroup
	for g := range many {
		all.Go(func() {
			for i := range each {
				n := g*each + i
				id := p.Unit(key(n))
				l.Expose(id, fmt.Sprint(n), n%2, t0)
				l.Observe(id, n%2, 0, 1)
				if err := l.Report(fmt.Sprint(n), "bought", 1, t0); err != nil {
					t.Error(err)
				}
				if i%100 == 0 {
					l.Reweigh([]float64{1, float64(1 + i)}, t0)
					l.Result()
				}
			}
		})
	}
	all.Wait()
	for _, a := range l.Result().Arms {
		if a.Units != each*many/2 || *a.Outcomes[0].Mean != 1 || *a.Outcomes[1].Mean != 1 || a.Outcomes[1].Units != a.Units {
			t.Errorf("%s: %d units, means %v and %v", a.Name, a.Units, *a.Outcomes[0].Mean, *a.Outcomes[1].Mean)
		}
	}
}

func BenchmarkExposeAndObserve(b *testing.B) {
	p := aPlan(Outcome{Name: "success", Source: FromStatus}, Outcome{Name: "latency", Source: FromLatency})
	l := NewLedger(p, []float64{1, 1}, t0)
	b.ReportAllocs()
	var k [8]byte
	for i := 0; b.Loop(); i++ {
		binary.BigEndian.PutUint64(k[:], uint64(i%50_000))
		if p.Enrol(k[:]) != ReasonHash {
			b.Fatal()
		}
		id := p.Unit(k[:])
		l.Expose(id, "", i%2, t0)
		l.Observe(id, i%2, 0, 1)
		l.Observe(id, i%2, 1, 0.01)
	}
}
