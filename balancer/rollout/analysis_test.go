// Simulations in one goroutine: the race detector has nothing to find here.

//go:build !race

package rollout

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"testing"
	"time"
)

// service is what a version does with requests, in a simulation.
type service struct {
	errors float64 // rate
	slow   float64 // factor of its latency
}

// world is what both versions share: load that drifts changes the errors and the latency of both alike.
type world struct {
	*rand.Rand
	drift bool
}

func (w world) common(look int) float64 {
	if !w.drift {
		return 1
	}
	return 0.4 + 1.2*math.Abs(math.Sin(float64(look)/5))
}

// serve has n requests served by versions between which share decides.
func (w world) serve(epoch *Epoch, n, look int, stable, canary service) {
	load := w.common(look)
	for range n {
		version, side := stable, &epoch.Stable
		if w.Float64() < epoch.Share {
			version, side = canary, &epoch.Canary
		}
		took := time.Duration(float64(20*time.Millisecond) * load * version.slow * math.Exp(0.5*w.NormFloat64()))
		side.Count(w.Float64() < version.errors*load, took)
	}
}

// outcome is how a simulated rollout ended.
type outcome struct {
	phase    Phase
	requests int
}

// run runs a rollout with looks looks a step, after so many requests each; waiting for a verdict takes a tenth of that
// time at most.
func run(w world, c *Criteria, looks, requests int, stable, canary service) outcome {
	p := Plan{Steps: []Step{{10, time.Minute}, {30, time.Minute}, {50, time.Minute}, {70, time.Minute}, {100, 0}}, Inconclusive: InconclusiveHold, MaxWait: 9 * time.Minute, Judged: true}
	s, _ := p.Next(Begin(begun), Input{Now: begun, Ready: true})
	var evidence Evidence
	epoch := &Epoch{Share: p.Steps[0].Weight / 100}
	now, done := begun, 0
	for look := 0; ; look++ {
		w.serve(epoch, requests, look, stable, canary)
		done += requests
		now = now.Add(time.Minute / time.Duration(looks))
		evidence.Look(epoch, c)
		a := c.Judge(&evidence)
		var move Move
		s, move = p.Next(s, Input{Now: now, Verdict: a.Verdict, Because: a.Why})
		switch {
		case s.Phase.Ended() || s.Phase == Paused:
			return outcome{s.Phase, done}
		case move == Advance:
			epoch = &Epoch{Share: p.Steps[s.Step].Weight / 100}
		}
	}
}

// both are the criteria of the reference.
func both(tolerate float64) *Criteria {
	return &Criteria{
		Errors: &RateCriteria{MaxRatio: 1.5, Tolerate: tolerate}, Latency: &LatencyCriteria{Quantile: 0.95, MaxRatio: 1.2},
		Alpha: 0.05, MinRequests: 100,
	}
}

// rollouts is how many are simulated; WEIR_PROVE asks for the number that a proof takes.
func rollouts() int {
	if os.Getenv("WEIR_PROVE") != "" {
		return 2000
	}
	return 60
}

// TestGoodVersionsAreNotAborted: a version that is no worse is aborted in no more than alpha of the rollouts, with ten looks
// a step, weights that change, load that drifts, and error rates from none to 5 %. Nor does it fail to get through, given
// requests enough.
func TestGoodVersionsAreNotAborted(t *testing.T) {
	n := rollouts()
	for _, errors := range []float64{0, 0.01, 0.05} {
		for _, drift := range []bool{false, true} {
			w := world{rand.New(rand.NewPCG(uint64(errors*1000), 7)), drift}
			ends := map[Phase]int{}
			for range n {
				ends[run(w, both(0.02), 10, 400, service{errors, 1}, service{errors, 1}).phase]++
			}
			t.Logf("errors %v, drift %v: %v of %d", errors, drift, ends, n)
			allowed := 0.05*float64(n) + 3*math.Sqrt(0.05*0.95*float64(n))
			if float64(ends[Aborted]) > allowed {
				t.Errorf("errors %v, drift %v: %d of %d good versions were aborted", errors, drift, ends[Aborted], n)
			}
			if ends[Succeeded] < n*6/10 {
				t.Errorf("errors %v, drift %v: only %d of %d good versions got through", errors, drift, ends[Succeeded], n)
			}
		}
	}
}

// TestNoWorsePasses is the other half: a version at the bound, of the ratio or of what is tolerated, gets through in no more
// than alpha of the rollouts, however often it is looked at.
func TestNoWorsePasses(t *testing.T) {
	n := rollouts()
	for _, c := range []struct {
		name           string
		tolerate       float64
		stable, canary service
	}{
		{"the ratio", 0, service{0.02, 1}, service{0.03, 1}},
		{"what is tolerated", 0.02, service{0.013, 1}, service{0.02, 1}},
		{"the ratio of slow ones", 0, service{0.02, 1}, service{0.02, 1.2}},
	} {
		criteria := both(c.tolerate)
		if c.stable.slow == c.canary.slow {
			criteria.Latency = nil // which would hold it as well
		} else {
			criteria.Errors = nil
		}
		w := world{rand.New(rand.NewPCG(10, uint64(len(c.name)))), false}
		ends := map[Phase]int{}
		for range n {
			ends[run(w, criteria, 10, 400, c.stable, c.canary).phase]++
		}
		t.Logf("at the bound of %s: %v of %d", c.name, ends, n)
		if allowed := 0.05*float64(n) + 3*math.Sqrt(0.05*0.95*float64(n)); float64(ends[Succeeded]) > allowed {
			t.Errorf("at the bound of %s %d of %d got through", c.name, ends[Succeeded], n)
		}
	}
}

// TestTheRuleOfThumb: "more than 1.5 times the errors at a look" aborts good versions by the half, on the same data.
func TestTheRuleOfThumb(t *testing.T) {
	w := world{rand.New(rand.NewPCG(8, 8)), true}
	n, aborted := rollouts(), 0
	for range n {
		epoch := &Epoch{Share: 0.1}
		for look := range 10 {
			w.serve(epoch, 400, look, service{0.01, 1}, service{0.01, 1})
			c, s := epoch.Canary.Counts(), epoch.Stable.Counts()
			if float64(c.Errors)/float64(max(c.Requests, 1)) > 1.5*float64(s.Errors)/float64(max(s.Requests, 1)) {
				aborted++
				break
			}
		}
	}
	t.Logf("the rule of thumb aborts %d of %d good versions in the first step", aborted, n)
	if aborted < n/4 {
		t.Errorf("the rule of thumb aborts only %d of %d good versions: the comparison in the documentation is wrong", aborted, n)
	}
}

// TestBadVersionsAreAborted prints how many requests it takes to find what, at each ratio.
func TestBadVersionsAreAborted(t *testing.T) {
	n := rollouts() / 3
	for _, c := range []struct {
		name   string
		canary service
		least  float64 // part of the rollouts that must end aborted
	}{
		{"1.5 times the errors", service{0.03, 1}, 0},
		{"2 times the errors", service{0.04, 1}, 0.8},
		{"5 times the errors", service{0.10, 1}, 1},
		{"20 % slower", service{0.02, 1.2}, 0},
		{"50 % slower", service{0.02, 1.5}, 0.95},
	} {
		w := world{rand.New(rand.NewPCG(9, uint64(len(c.name)))), true}
		ends, requests := map[Phase]int{}, 0
		for range n {
			o := run(w, both(0), 10, 400, service{0.02, 1}, c.canary)
			if ends[o.phase]++; o.phase == Aborted {
				requests += o.requests
			}
		}
		t.Logf("%s: %v of %d; %d requests to an abort in the mean", c.name, ends, n, requests/max(ends[Aborted], 1))
		if float64(ends[Aborted]) < c.least*float64(n) {
			t.Errorf("%s: %d of %d were aborted", c.name, ends[Aborted], n)
		}
		if ends[Succeeded] > n/10 {
			t.Errorf("%s: %d of %d got through", c.name, ends[Succeeded], n)
		}
	}
}

// TestNothingPassesOnNothing: without requests, or too few, an analysis is inconclusive.
func TestNothingPassesOnNothing(t *testing.T) {
	var e Evidence
	c := both(0.01)
	if a := c.Judge(&e); a.Verdict != Inconclusive {
		t.Errorf("nothing: %+v", a)
	}
	epoch := &Epoch{Share: 0.1}
	for range 99 {
		epoch.Canary.Count(false, time.Millisecond)
	}
	for range 5000 {
		epoch.Stable.Count(false, time.Millisecond)
	}
	e.Look(epoch, c)
	if a := c.Judge(&e); a.Verdict != Inconclusive || a.Canary.Requests != 99 {
		t.Errorf("99 requests: %+v", a)
	}
}

// TestNoErrorsAtAllCanPass: where nothing fails, what is tolerated decides.
func TestNoErrorsAtAllCanPass(t *testing.T) {
	for tolerate, want := range map[float64]Verdict{0: Inconclusive, 0.01: Pass} {
		c := &Criteria{Errors: &RateCriteria{MaxRatio: 1.5, Tolerate: tolerate}, Alpha: 0.01, MinRequests: 100}
		epoch, e := &Epoch{Share: 0.5}, Evidence{}
		for range 1000 {
			epoch.Canary.Count(false, time.Millisecond)
			epoch.Stable.Count(false, time.Millisecond)
		}
		e.Look(epoch, c)
		if a := c.Judge(&e); a.Verdict != want {
			t.Errorf("tolerate %v: %+v", tolerate, a)
		}
	}
}

// TestEvidenceSurvives: written and read again in the middle, it comes to the same verdicts.
func TestEvidenceSurvives(t *testing.T) {
	c := both(0)
	w := world{rand.New(rand.NewPCG(5, 5)), false}
	var e Evidence
	epoch := &Epoch{Share: 0.3}
	for range 3 {
		w.serve(epoch, 500, 0, service{0.05, 1}, service{0.05, 1})
		e.Look(epoch, c)
	}
	text, err := json.Marshal(&e)
	if err != nil {
		t.Fatal(err)
	}
	var again Evidence
	if err := json.Unmarshal(text, &again); err != nil {
		t.Fatal(err)
	}
	if a, b := c.Judge(&e), c.Judge(&again); fmt.Sprint(a.Verdict, a.Why, a.Canary, a.Stable) != fmt.Sprint(b.Verdict, b.Why, b.Canary, b.Stable) {
		t.Errorf("%+v became %+v", a, b)
	}
	next := &Epoch{Share: 0.3}
	w.serve(next, 500, 0, service{0.05, 1}, service{0.05, 1})
	again.Look(next, c)
	canary, stable := again.Totals()
	if canary.Requests+stable.Requests != 2000 {
		t.Errorf("%d and %d requests after it was read", canary.Requests, stable.Requests)
	}
}

// TestSmallDifferencesOfLatency: what is many times as slow and yet no longer than is allowed passes.
func TestSmallDifferencesOfLatency(t *testing.T) {
	for _, test := range []struct {
		least time.Duration
		slow  float64
		want  Phase
	}{
		{0, 1.5, Aborted}, {60 * time.Millisecond, 1.5, Succeeded}, {60 * time.Millisecond, 6, Aborted},
	} {
		c := &Criteria{Latency: &LatencyCriteria{Quantile: 0.95, MaxRatio: 1.2, Least: test.least}, Alpha: 0.01, MinRequests: 100}
		w := world{rand.New(rand.NewPCG(6, 1)), false}
		if o := run(w, c, 10, 400, service{0, 1}, service{0, test.slow}); o.phase != test.want {
			t.Errorf("%v, %v times as slow: %s, want %s", test.least, test.slow, o.phase, test.want)
		}
	}
}

// TestSlowCriteria judges by an SLO.
func TestSlowCriteria(t *testing.T) {
	c := &Criteria{Slow: &SlowCriteria{SLO: 50 * time.Millisecond, RateCriteria: RateCriteria{MaxRatio: 1.5}}, Alpha: 0.01, MinRequests: 100}
	for factor, want := range map[float64]Verdict{1: Pass, 2: Fail} {
		w := world{rand.New(rand.NewPCG(6, uint64(factor))), true}
		if o := run(w, c, 10, 400, service{0, 1}, service{0, factor}); (o.phase == Aborted) != (want == Fail) {
			t.Errorf("%v times as slow: %+v", factor, o)
		}
	}
}
