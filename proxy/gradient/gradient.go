// Package gradient finds how many requests a pool bears, by what their number does to its latency: the gradient
// algorithm of Envoy's adaptive concurrency filter
// (https://www.envoyproxy.io/docs/envoy/latest/configuration/http/http_filters/adaptive_concurrency_filter).
//
// The limit follows gradient × limit + √limit, where the gradient is the least latency, tolerance added, over that
// of the last samples. It is at rest where latency is a little more than what is tolerated. A server that computes
// in batches is quicker alone than in company without being overloaded, so its tolerance should be large: at
// 100 % the limit comes to lie at about twice the number from which on latency grows.
//
// It differs from Envoy's in four things. After a change it waits for as long as a request takes before it goes
// by samples: they are answers to the limit before, and where a request takes longer than the interval, going by
// them makes the limit swing. A limit that is not used does not grow. The least latency is taken for nothing
// while few requests are under way, and is not measured while there are fewer than the limit would allow; where it
// is, the limit is lowered only to where latency should be at rest, not to a few requests. And where latency
// follows the limit no more, it is measured again at once.
//
// It is a pure function: Step is given the state, what was observed, and the time.
package gradient

import (
	"math"
	"time"
)

// Settings are what the configuration says.
type Settings struct {
	Min, Max  int           // of the limit
	Tolerance float64       // by how much latency may grow over its least: 1 is by as much again
	Interval  time.Duration // that samples are taken over, at least
	Remeasure time.Duration // from one measurement of the least latency to the next
}

// Sample is what was observed since samples were last taken.
type Sample struct {
	Count   int
	Latency time.Duration // the same percentile each time
	Under   int           // requests under way now
	Peak    int           // and the most that were
}

type phase uint8

const (
	steady    phase = iota
	draining        // the limit is lowered, and requests are to end until there are no more than it says
	measuring       // there are
)

// State is what is known. The zero value knows nothing.
type State struct {
	limit float64
	phase phase
	least time.Duration // 0: not known
	last  time.Duration // latency of the last sample
	since int64         // when these samples, or the phase, began
	fresh int64         // before that, samples are of requests sent under another limit
	due   int64         // when the least latency is measured again
	held  float64       // the limit to go back to after a measurement
	known float64       // the limit at the last measurement
	found int64         // when that was
	stale int           // steps in a row that say the least latency is no more what it was
}

const (
	minSamples   = 20 // of which a percentile is taken
	fewSamples   = 6  // where no more have come in fewAfter, or in as long as one takes
	fewAfter     = 2 * time.Second
	maxAge       = 10 * time.Second
	minGradient  = 0.5
	maxGradient  = 2
	smoothing    = 4 // measurements that cost nothing are taken into account by this part
	muchLower    = 0.8
	staleSteps   = 5
	patience     = 10 // the longest a measurement lasts, in latencies
	minPatience  = time.Second
	maxPatience  = 30 * time.Second
	soonerFactor = 10  // part of the period after which what looks stale is measured
	againFactor  = 30  // and a measurement that found much less is made again
	rareness     = 100 // a measurement lasts for some latencies; at least so many lie between two
)

// Limit is how many requests may be under way.
func (s State) Limit() int { return max(int(math.Round(s.limit)), 1) }

// Least is the least latency, 0 while it is not known.
func (s State) Least() time.Duration { return s.least }

// Measuring reports whether the limit is lowered to measure the least latency.
func (s State) Measuring() bool { return s.phase != steady }

// Step takes a sample in. taken says that the next one is to begin now; else this one goes on. jitter, from 0 to
// 1, is what keeps several pools, or several proxies of one pool, from measuring at the same time.
func (s State) Step(c *Settings, o Sample, now int64, jitter float64) (next State, taken bool) {
	if s.limit == 0 {
		s.limit = math.Sqrt(float64(c.Min) * float64(c.Max))
		s.since = now
		return s, true
	}
	s.limit = s.clamp(c, s.limit)
	switch s.phase {
	case draining:
		return s.drain(o, now), true
	case measuring:
		return s.measure(c, o, now, jitter)
	}
	switch {
	case now < s.fresh:
		s.since = now
		return s, true
	case now-s.since < int64(c.Interval):
		return s, false
	case !s.enough(o, now): // a quiet pool needs no limit: what is too old says nothing any more
		if taken = now-s.since > int64(max(maxAge, 10*c.Interval, patience*s.last)); taken {
			s.since = now
		}
		return s, taken
	}
	s.since = now
	return s.judge(c, o, now, jitter), true
}

// enough reports whether a sample may be gone by.
func (s State) enough(o Sample, now int64) bool {
	few := now-max(s.since, s.fresh) > int64(max(fewAfter, s.last))
	return o.Count >= minSamples || o.Count >= fewSamples && few
}

// judge changes the limit.
func (s State) judge(c *Settings, o Sample, now int64, jitter float64) State {
	s.last = o.Latency
	pressed, unknown := 2*o.Peak >= int(s.limit), s.least == 0
	switch {
	case unknown && pressed:
		s.least = o.Latency // until it is measured, which is next
	case unknown:
		s = s.measured(c, o.Latency, now, jitter)
	case o.Peak <= s.quiet(c)/2:
		s = s.measured(c, s.least+(o.Latency-s.least)/smoothing, now, jitter)
	}
	gradient := float64(s.least) * (1 + c.Tolerance) / float64(max(o.Latency, 1))
	gradient = min(max(gradient, minGradient), maxGradient)
	before := s.limit
	limit := gradient*before + math.Sqrt(before)
	// Latency that is below the least, or does not fall with the limit, is not that of the same server.
	lower := pressed && o.Latency < time.Duration(muchLower*float64(s.least))
	if limit > before && (lower || !pressed) {
		limit = before // nobody knows, or nobody needs more
	}
	s.limit = s.clamp(c, limit)
	if unmoved := gradient < 1 && s.limit <= max(s.known/2, float64(c.Min)); lower || unmoved {
		s.stale++
	} else {
		s.stale = 0
	}
	// While the limit could grow, it does not matter whether the least latency is still the same.
	due := gradient < 1 && now >= s.due || s.stale >= staleSteps && now-s.found >= int64(s.period(c)/soonerFactor)
	if due || unknown && pressed {
		return s.begin(c, now)
	}
	if math.Round(s.limit) != math.Round(before) {
		s.fresh = now + int64(min(o.Latency, maxPatience))
	}
	return s
}

// quiet is a number of requests that should not be felt: half of what is left when the tolerance is taken off
// the limit.
func (s State) quiet(c *Settings) int { return max(int(s.limit/(2*(1+c.Tolerance))), 1) }

// begin begins a measurement.
func (s State) begin(c *Settings, now int64) State {
	s.phase, s.since, s.stale, s.held = draining, now, 0, s.limit
	s.limit = s.clamp(c, float64(s.quiet(c)))
	return s
}

func (s State) drain(o Sample, now int64) State {
	switch {
	case o.Under <= s.Limit():
		// What is under way now has begun in company; in as long as it takes it has ended.
		s.phase, s.since, s.fresh = measuring, now, now+int64(min(s.last, maxPatience))
	case now-s.since > s.patience():
		return s.giveUp(now)
	}
	return s
}

func (s State) measure(c *Settings, o Sample, now int64, jitter float64) (State, bool) {
	switch {
	case now < s.fresh:
		return s, true
	case s.enough(o, now):
		s.last = o.Latency
		return s.resume(now).measured(c, o.Latency, now, jitter), true
	case now-s.since > s.patience():
		return s.giveUp(now), true
	}
	return s, false
}

// patience is how long one part of a measurement may last.
func (s State) patience() int64 {
	return int64(min(max(patience*s.last, minPatience), maxPatience))
}

// giveUp ends a measurement that has found too few requests, or some that do not end.
func (s State) giveUp(now int64) State {
	s = s.resume(now)
	s.due = now + int64(maxPatience)
	return s
}

// resume goes back to the limit from before a measurement.
func (s State) resume(now int64) State {
	s.phase, s.limit, s.since = steady, s.held, now
	s.fresh = now + int64(min(s.last, maxPatience))
	return s
}

// measured takes a measurement of the least latency in. One that finds much less than the one before was perhaps
// made at a number of requests that is felt all the same: the next comes sooner.
func (s State) measured(c *Settings, latency time.Duration, now int64, jitter float64) State {
	much := s.least > 0 && latency < time.Duration(muchLower*float64(s.least))
	s.least, s.known, s.found = latency, s.limit, now
	next := s.period(c)
	if much {
		next /= againFactor
	}
	s.due = now + int64(float64(next)*(1+jitter/10))
	return s
}

// period is the time between two measurements.
func (s State) period(c *Settings) time.Duration { return max(c.Remeasure, rareness*s.least) }

func (s State) clamp(c *Settings, limit float64) float64 {
	return min(max(limit, float64(c.Min)), float64(c.Max))
}
