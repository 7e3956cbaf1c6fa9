package scenarios

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"time"
)

// Shapes of a service time around its mean.
const (
	Exponential = "exponential"
	Constant    = "constant"
)

// Model is how a pod serves. Durations in its JSON are nanoseconds.
type Model struct {
	Servers int           // requests, or batches, served at one time
	Service time.Duration // mean time that one takes
	Shape   string        // of the time that one takes: Exponential or Constant
	// Batch is how many waiting requests are served together; 1 is no batching. A batch closes when its server is
	// free, and Gather after its first request at the earliest.
	Batch  int           `json:",omitempty"`
	Gather time.Duration `json:",omitempty"`
	Each   float64       `json:",omitempty"` // what each further request of a batch adds, as a part of Service
	// Slower is the factor of Service in every other stretch of Phase, from the second on; Phase 0 is none.
	Slower float64       `json:",omitempty"`
	Phase  time.Duration `json:",omitempty"`
	// Fails is the part of requests answered 500 at once.
	Fails float64 `json:",omitempty"`
	// Queue is how many requests may wait; further ones are answered 503 at once. 0 is no bound.
	Queue int `json:",omitempty"`
}

// ParseModel reads a model's JSON.
func ParseModel(text string) (m Model, err error) {
	if err := json.Unmarshal([]byte(text), &m); err != nil {
		return m, fmt.Errorf("model %q: %w", text, err)
	}
	m.Batch = max(m.Batch, 1)
	switch {
	case m.Servers < 1 || m.Service <= 0:
		return m, fmt.Errorf("model %s: it needs a server and a service time at least", text)
	case m.Shape != Exponential && m.Shape != Constant:
		return m, fmt.Errorf("model %s: shape %q must be %s or %s", text, m.Shape, Exponential, Constant)
	case m.Phase > 0 && m.Slower <= 0:
		return m, fmt.Errorf("model %s: a phase needs a factor above 0", text)
	}
	return m, nil
}

// line is a pod's queue and servers in virtual time: a request is given its place when it comes, and whoever serves it
// sleeps until the place is over. Sleeping too long does not add up, and takes no CPU. It is not safe for concurrent
// use. Moments are offsets from the begin.
type line struct {
	model   Model
	rand    *rand.Rand
	free    []time.Duration // when each server is
	forming *batch          // the last; nil before the first
}

// batch is requests that are served together: one, without batching.
type batch struct {
	server int
	start  time.Duration
	factor float64 // of the service time
	n      int     // final from start on
}

func newLine(m Model, seed uint64) *line {
	return &line{model: m, rand: rand.New(rand.NewPCG(seed, 0x5ce7a10)), free: make([]time.Duration, m.Servers)}
}

// fails draws whether a request fails at once.
func (l *line) fails() bool { return l.model.Fails > 0 && l.rand.Float64() < l.model.Fails }

// join gives a request that comes now its place.
func (l *line) join(now time.Duration) *batch {
	if b := l.forming; b != nil {
		if b.n < l.model.Batch && now < b.start {
			b.n++
			return b
		}
		l.free[b.server] = l.end(b)
	}
	i := slices.Index(l.free, slices.Min(l.free))
	gather := time.Duration(0)
	if l.model.Batch > 1 {
		gather = l.model.Gather
	}
	start := max(now+gather, l.free[i])
	l.forming = &batch{server: i, start: start, factor: l.draw() * l.slower(start), n: 1}
	return l.forming
}

// end is when a batch that gets no more requests is done.
func (l *line) end(b *batch) time.Duration {
	service := float64(l.model.Service) * b.factor * (1 + l.model.Each*float64(b.n-1))
	return b.start + time.Duration(math.Round(service))
}

func (l *line) draw() float64 {
	if l.model.Shape == Exponential {
		return l.rand.ExpFloat64()
	}
	return 1
}

// slower is the factor of the phase at a moment.
func (l *line) slower(at time.Duration) float64 {
	if l.model.Phase > 0 && at/l.model.Phase%2 == 1 {
		return l.model.Slower
	}
	return 1
}
