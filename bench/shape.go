package bench

import (
	"math"
	"math/rand/v2"
	"time"
)

// Arrivals is a process of mean rate 1: each call returns when the next arrival is, on a clock
// that a shape then stretches. A shape of rate r(t) puts an arrival at x where the integral of r
// from 0 is x, which keeps it even, or Poisson, whatever the shape.
type Arrivals func() float64

// Even is arrivals at 0, 1, 2 and so on.
func Even() Arrivals {
	n := -1.0
	return func() float64 { n++; return n }
}

// Independent is a Poisson process of rate 1.
func Independent(seed uint64) Arrivals {
	at, gaps := 0.0, rand.New(rand.NewPCG(seed, streamArrivals))
	return func() float64 { at += gaps.ExpFloat64(); return at }
}

type ramp struct {
	from, to, over float64 // requests a second, and seconds
	arrivals       Arrivals
}

// Ramp goes evenly from one rate to another over so long, and stays there.
func Ramp(from, to float64, over time.Duration, arrivals Arrivals) Pacer {
	return &ramp{from, to, over.Seconds(), arrivals}
}

// Next solves from·t + (to − from)/(2·over)·t² = x for the next x. The root is written so that
// nothing cancels, however flat the ramp.
func (r *ramp) Next() time.Duration {
	x := r.arrivals()
	if total := (r.from + r.to) / 2 * r.over; x >= total {
		return seconds(r.over + (x-total)/r.to) // never, after a ramp to 0
	}
	slope := (r.to - r.from) / r.over
	if x == 0 {
		return 0
	}
	return seconds(2 * x / (r.from + math.Sqrt(max(0, r.from*r.from+2*slope*x))))
}

type steps struct {
	left     []Step  // the first is under way
	began    float64 // seconds: when it did
	before   float64 // arrivals before it, in the mean
	arrivals Arrivals
}

// Steps holds each rate for its time, one after the other; nothing is due after the last.
func Steps(list []Step, arrivals Arrivals) Pacer { return &steps{left: list, arrivals: arrivals} }

func (s *steps) Next() time.Duration {
	x := s.arrivals()
	for len(s.left) > 0 {
		step := s.left[0]
		if count := step.Rate * step.For.Seconds(); x >= s.before+count {
			s.before += count
			s.began += step.For.Seconds()
			s.left = s.left[1:]
			continue
		}
		return seconds(s.began + (x-s.before)/step.Rate)
	}
	return Never
}

type bursts struct {
	burst   Burst
	n       uint64 // bursts begun before the next
	left    int    // of the burst under way
	between Pacer
	waiting time.Duration // the next arrival between bursts
}

// Bursts puts a burst at the start of every period, 0 the first, into the schedule between.
func Bursts(b Burst, between Pacer) Pacer {
	return &bursts{burst: b, left: b.Requests, between: between, waiting: between.Next()}
}

func (b *bursts) Next() time.Duration {
	due := Never
	if every := uint64(b.burst.Every); b.n <= uint64(Never-1)/every {
		due = time.Duration(b.n * every)
	}
	if b.waiting < due {
		due = b.waiting
		b.waiting = b.between.Next()
		return due
	}
	if b.left--; b.left == 0 {
		b.left = b.burst.Requests
		b.n++
	}
	return due
}

type after struct {
	warmup      time.Duration
	first, then Pacer
	warm        bool // first has ended
}

// After runs the schedule first until warmup, and then the other, whose offsets count from there.
func After(warmup time.Duration, first, then Pacer) Pacer {
	return &after{warmup: warmup, first: first, then: then}
}

func (a *after) Next() time.Duration {
	if !a.warm {
		if due := a.first.Next(); due < a.warmup {
			return due
		}
		a.warm = true
	}
	due := a.then.Next()
	if due > Never-a.warmup {
		return Never
	}
	return due + a.warmup
}
