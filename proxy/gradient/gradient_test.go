//go:build !race

package gradient

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// server computes in batches: up to knee requests at once take base each, more share what it can do. That is how a
// GPU answers.
type server struct {
	base time.Duration
	knee float64
	jobs []job
}

type job struct {
	began time.Duration
	left  float64 // of base
}

const tickOf = 100 * time.Millisecond

// simulation offers a server more or less than it can do, through a limit without a queue.
type simulation struct {
	t   *testing.T
	rng *rand.Rand
	server
	rate     float64 // a second
	settings Settings
	state    State
	now      time.Duration

	latencies []time.Duration
	peak      int
	// Since reset.
	served, shed int
	limits       []float64
	measuring    int // ticks
}

func newSimulation(t *testing.T, s server, rate float64) *simulation {
	return &simulation{t: t, rng: rand.New(rand.NewPCG(1, 2)), server: s, rate: rate, settings: Settings{
		Min: 2, Max: 1000, Tolerance: 1, Interval: tickOf, Remeasure: time.Minute,
	}}
}

func (s *simulation) capacity() float64 { return s.knee / s.base.Seconds() }

func (s *simulation) reset() { s.served, s.shed, s.limits, s.measuring = 0, 0, nil, 0 }

func (s *simulation) run(d time.Duration) {
	const step = time.Millisecond
	for end := s.now + d; s.now < end; s.now += step {
		if s.now%tickOf == 0 {
			s.tick()
		}
		for n := s.rate * step.Seconds(); n > 0; n-- {
			if s.rng.Float64() >= n { // Bernoulli for the fraction
				continue
			}
			if len(s.jobs) >= s.state.Limit() {
				s.shed++
				continue
			}
			s.jobs = append(s.jobs, job{s.now, 0.9 + 0.2*s.rng.Float64()})
			s.peak = max(s.peak, len(s.jobs))
		}
		done := float64(step) / float64(s.base) / max(1, float64(len(s.jobs))/s.knee)
		for i := range s.jobs {
			if s.jobs[i].left -= done; s.jobs[i].left <= 0 {
				s.latencies = append(s.latencies, s.now-s.jobs[i].began)
				s.served++
			}
		}
		s.jobs = slices.DeleteFunc(s.jobs, func(j job) bool { return j.left <= 0 })
	}
}

func (s *simulation) tick() {
	o := Sample{Count: len(s.latencies), Under: len(s.jobs), Peak: s.peak}
	if o.Count > 0 {
		slices.Sort(s.latencies)
		o.Latency = s.latencies[int(math.Ceil(0.95*float64(o.Count)))-1]
	}
	before := s.state
	var taken bool
	s.state, taken = s.state.Step(&s.settings, o, int64(s.now), s.rng.Float64())
	if taken {
		s.latencies, s.peak = s.latencies[:0], len(s.jobs)
	}
	if n := s.state.Limit(); n < s.settings.Min || n > s.settings.Max {
		s.t.Fatalf("%v: limit %d", s.now, n)
	}
	if before.Measuring() || s.state.Measuring() {
		s.measuring++
		return
	}
	s.limits = append(s.limits, s.state.limit)
}

// check holds what was seen since reset against what the server can do.
func (s *simulation) check(what string, d time.Duration) {
	s.t.Helper()
	var sum, squares float64
	for _, l := range s.limits {
		sum += l
		squares += l * l
	}
	mean := sum / float64(len(s.limits))
	spread := math.Sqrt(max(squares/float64(len(s.limits))-mean*mean, 0)) / mean
	could := min(s.rate, s.capacity()) * d.Seconds()
	part := float64(s.served) / could
	s.t.Logf("%s: limit %.1f ± %.0f %% (knee %v), %.1f %% of what could be served, %d shed, least %v, measuring %.1f %%",
		what, mean, 100*spread, s.knee, 100*part, s.shed, s.state.least, float64(s.measuring)/float64(d/tickOf)*100)
	if mean < s.knee || mean > 4*s.knee {
		s.t.Errorf("%s: a mean limit of %.1f, the knee is at %v", what, mean, s.knee)
	}
	if part < 0.95 {
		s.t.Errorf("%s: %.1f %% of what could be served", what, 100*part)
	}
	if spread > 0.2 {
		s.t.Errorf("%s: the limit swings by %.0f %%", what, 100*spread)
	}
}

var servers = []struct {
	name string
	server
}{
	{"quick", server{base: 20 * time.Millisecond, knee: 32}},
	{"slow", server{base: time.Second, knee: 8}},
	{"large batches", server{base: 200 * time.Millisecond, knee: 128}},
	{"small", server{base: 50 * time.Millisecond, knee: 4}},
}

// TestOverload offers twice what the server can do.
func TestOverload(t *testing.T) {
	for _, c := range servers {
		t.Run(c.name, func(t *testing.T) {
			s := newSimulation(t, c.server, 2*c.server.knee/c.server.base.Seconds())
			s.run(2 * time.Minute)
			s.reset()
			s.run(10 * time.Minute)
			s.check(c.name, 10*time.Minute)
		})
	}
}

// TestFollows changes the server under load: slower, quicker, smaller, larger.
func TestFollows(t *testing.T) {
	for _, c := range servers {
		t.Run(c.name, func(t *testing.T) {
			s := newSimulation(t, c.server, 4*c.server.knee/c.server.base.Seconds())
			s.run(2 * time.Minute)
			for _, change := range []struct {
				what string
				do   func()
				soon bool // else when the least latency is measured the next time
			}{
				{"3 times as slow", func() { s.base *= 3 }, true},
				{"as before", func() { s.base /= 3 }, false},
				{"half the knee", func() { s.knee /= 2 }, true},
				{"the whole again", func() { s.knee *= 2 }, true},
				{"6 times as slow", func() { s.base *= 6 }, true},
				{"as at first", func() { s.base /= 6 }, false},
			} {
				settle := s.state.period(&s.settings) * 5 / 4
				change.do()
				if change.soon {
					settle = max(20*time.Second, 50*s.base)
				}
				s.run(settle)
				s.reset()
				s.run(2 * time.Minute)
				s.check(change.what, 2*time.Minute)
			}
		})
	}
}

// TestHealthy offers what the server bears easily: nothing is shed, and nothing has to be measured.
func TestHealthy(t *testing.T) {
	for _, c := range servers {
		t.Run(c.name, func(t *testing.T) {
			s := newSimulation(t, c.server, 0.15*c.server.knee/c.server.base.Seconds())
			s.run(5 * time.Minute)
			if s.shed > 0 {
				t.Errorf("%d of %d were shed", s.shed, s.shed+s.served)
			}
			for _, part := range []float64{0.4, 0.6, 0.75} { // a rush that grows
				s.rate = part * s.capacity()
				s.reset()
				s.run(10 * time.Minute)
				if float64(s.shed) > 0.002*float64(s.served) || s.measuring > 60 {
					t.Errorf("at %g of what the server bears %d of %d were shed, measuring %d of 6000 ticks", part, s.shed, s.shed+s.served, s.measuring)
				}
			}
			// Slowly into an overload, which must not come to count as usual.
			for part := 0.75; part < 2; part += 0.05 {
				s.rate = part * s.capacity()
				s.run(20 * time.Second)
			}
			s.run(time.Minute)
			s.reset()
			s.run(3 * time.Minute)
			s.check("after a slow rise", 3*time.Minute)
			s.rate = 0
			s.run(10 * time.Minute)
			if s.state.Measuring() {
				t.Error("measures without requests")
			}
		})
	}
}

// TestFewSamples: what is too little to go by changes nothing.
func TestFewSamples(t *testing.T) {
	c := &Settings{Min: 1, Max: 100, Tolerance: 1, Interval: tickOf, Remeasure: time.Minute}
	s, taken := State{}.Step(c, Sample{}, 0, 0)
	if !taken || s.Limit() != 10 {
		t.Fatalf("begins with %d, %v", s.Limit(), taken)
	}
	now := int64(0)
	for range 90 {
		now += int64(tickOf)
		if s, taken = s.Step(c, Sample{Count: fewSamples - 1, Latency: time.Hour, Under: 10, Peak: 10}, now, 0); taken || s.Limit() != 10 || s.Measuring() {
			t.Fatalf("%d, %v, %v", s.Limit(), taken, s.Measuring())
		}
	}
	for range 20 {
		now += int64(tickOf)
		if s, taken = s.Step(c, Sample{Count: fewSamples - 1, Latency: time.Hour, Under: 10, Peak: 10}, now, 0); taken {
			return // samples of long ago are dropped
		}
	}
	t.Error("old samples are kept")
}

// TestStuck: requests that do not end hold no measurement up for long.
func TestStuck(t *testing.T) {
	c := &Settings{Min: 1, Max: 100, Tolerance: 1, Interval: tickOf, Remeasure: time.Minute}
	s, _ := State{}.Step(c, Sample{}, 0, 0)
	s, _ = s.Step(c, Sample{Count: minSamples, Latency: 10 * time.Millisecond, Under: 10, Peak: 10}, int64(tickOf), 0)
	if !s.Measuring() || s.Limit() >= 10 {
		t.Fatalf("no measurement: %+v", s)
	}
	now := int64(tickOf)
	for s.Measuring() {
		if now += int64(tickOf); now > int64(5*time.Second) {
			t.Fatal("measures on and on")
		}
		s, _ = s.Step(c, Sample{Under: 10, Peak: 10}, now, 0)
	}
	if s.Limit() < 10 {
		t.Errorf("goes back to %d", s.Limit())
	}
}
