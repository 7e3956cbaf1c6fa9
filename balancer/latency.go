package balancer

import (
	"math/bits"
	"sync/atomic"
	"time"
)

const (
	// assumed is the latency in seconds of an endpoint of which nothing is known, or nothing but failures.
	assumed = 1.0
	// leastGood bounds what failures make of a latency: 1 / leastGood².
	leastGood = 0.01
	// likeAge is the age in seconds from which on a latency at as many in flight counts no more.
	likeAge = 5
	// rifClasses is how many classes of requests in flight there are, see classOf.
	rifClasses = 20
)

// Attempt is how one attempt went, for Endpoint.End.
type Attempt struct {
	Outcome Outcome
	Took    time.Duration
	// Head is the part of Took after which the head of the answer came; 0 when none did. The policies that look at
	// latency go by it: how long the rest takes may be the client's doing.
	Head time.Duration
	// Connect is the part of Head, or of Took, in which a connection was made. They leave it out: the next request finds
	// the connection made.
	Connect time.Duration
	// Ended is when it ended; zero is now.
	Ended time.Time
	// Rif is the endpoint's requests in flight when it was picked, itself included (Inflight after Pick); 0 is
	// not known.
	Rif int64
}

// learned is what an endpoint's attempts say about the next one, for the policies that look at latency, in seconds.
type learned struct {
	on   atomic.Bool // whether anybody wants to know
	peak average     // of the latency of successes for each request in flight when they began, with peaks
	each average     // the same without peaks
	good average     // part of the attempts that succeeded
	// like are the latencies of successes that began with as many in flight.
	like [rifClasses]average
}

// classOf is the class of n requests in flight, itself included: 1, 2, 3, 4, 5–6, 7–8, 9–12, 13–16 …
func classOf(n int64) int {
	if n <= 2 {
		return int(max(n, 1)) - 1
	}
	u := uint64(n - 1)
	e := bits.Len64(u) - 1
	return min(2*e+int(u>>(e-1)&1), rifClasses-1)
}

// learn takes in an attempt for the policies that look at latency.
func (e *Endpoint) learn(a Attempt) {
	var at moment
	if a.Ended.IsZero() {
		at = e.line.now()
	} else {
		at = e.line.moment(a.Ended)
	}
	if a.Rif <= 0 {
		a.Rif = e.inflight.Load() + 1 // over time, as many are found on arrival as are left behind
	}
	took := a.Took
	if a.Head > 0 {
		took = a.Head
	}
	e.learned.learn(a.Outcome, max(0, took-a.Connect).Seconds(), a.Rif, at)
}

func (l *learned) learn(o Outcome, took float64, rif int64, at moment) {
	share := took / float64(rif)
	switch {
	case o == Canceled: // it would have taken longer: that counts where it is news
		if s := l.peak.load(); s.n > 0 && share > s.value {
			l.peak.addPeak(share, at)
		}
	case o.Failed():
		l.fail(share, at)
	default:
		if l.good.load().value < 0.9999 { // else no write: most endpoints never fail
			l.good.add(1, at)
		}
		l.peak.addPeak(share, at)
		l.each.add(share, at)
		l.like[classOf(rif)].add(took, at)
	}
}

// fail takes in a failure. It is not fast: it renews what is known of the latency, and only lengthens it.
func (l *learned) fail(share float64, at moment) {
	if l.good.load().n == 0 && l.each.load().n > 0 {
		l.good.add(1, at) // for what succeeded before; else it may fail a hundred times before another endpoint answers
	}
	l.good.add(0, at)
	l.peak.change(at, func(s sample) float64 {
		if s.n == 0 {
			return assumed
		}
		return max(s.value, share)
	})
}

// lengthened is the factor by which failures are taken to lengthen latency at a moment.
func (l *learned) lengthened(at moment) float64 {
	s := l.good.load()
	if s.n == 0 {
		return 1
	}
	s.n = sureSamples // one failure is as sure as many
	good := max(leastGood, 1-(1-s.value)*s.left(at))
	return 1 / (good * good)
}

// peakShare is the peak-sensitive latency for each request in flight as of a moment, lengthened by failures; 0 when
// nothing is known.
func (l *learned) peakShare(at moment) float64 {
	s := l.peak.load()
	if s.n == 0 {
		return 0
	}
	if l.each.load().n == 0 {
		s.n = sureSamples // failures leave no hope
	}
	return s.now(at) * l.lengthened(at)
}

// latencyAt is the latency that a request may expect that is the rif-th in flight, lengthened by failures; 0 when
// nothing is known.
func (l *learned) latencyAt(rif int64, at moment) float64 {
	each := l.each.load()
	if each.n == 0 {
		return l.peakShare(at) // nothing but failures
	}
	if like := l.like[classOf(rif)].load(); like.n > 0 && at.since(like.at) < likeAge {
		return like.hope() * each.left(at) * l.lengthened(at)
	}
	return each.now(at) * float64(rif) * l.lengthened(at)
}

// learns reports whether the pool's policy looks at latency.
func (p *Pool) learns() bool {
	return p.config.Policy == "peak_ewma" || p.config.Policy == "prequal"
}
