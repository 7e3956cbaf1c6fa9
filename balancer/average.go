package balancer

import (
	"math"
	"sync/atomic"
	"time"
)

const (
	// latencyDecay is the time in which what was learned of an endpoint loses all but 1/e of its weight
	// (decayTime of Finagle's Peak EWMA).
	latencyDecay        = 10 * time.Second
	latencyDecaySeconds = float64(latencyDecay) / float64(time.Second)
	// leastPart is what one attempt counts at least in an average, so that many a second do not make it slow.
	leastPart = 1.0 / 32
	// sureSamples is how many samples an average needs to be kept for the whole of latencyDecay. One that is of a
	// single request, which perhaps met a cold cache, is forgotten in an eighth of it.
	sureSamples = 8
)

// average is a value, how many samples it is of, and when the last came: a float32, 5 bits and milliseconds in one word.
// Zero is nothing. It takes no lock: who loses a race tries again, who loses three gives up.
type average struct{ word atomic.Uint64 }

const (
	averageTries = 3
	sampleBits   = 5
	mostSamples  = 1<<sampleBits - 1
)

// moment is a time since line.born in milliseconds, modulo 37 hours.
type moment uint32

func (l *line) moment(t time.Time) moment {
	return moment(uint32(t.Sub(l.born).Milliseconds()) << sampleBits)
}

// now is the moment of now. It asks for the monotonic clock alone, which is half as much work.
func (l *line) now() moment { return moment(uint32(time.Since(l.born).Milliseconds()) << sampleBits) }

// since is the time from then to m in seconds.
func (m moment) since(then moment) float64 {
	return max(0, float64(int32(m-then)>>sampleBits)/1000)
}

// sample is what an average holds.
type sample struct {
	value float64
	n     int // 0: nothing
	at    moment
}

func (a *average) load() sample { return unpacked(a.word.Load()) }

func unpacked(w uint64) sample {
	return sample{value: float64(math.Float32frombits(uint32(w >> 32))), n: int(w & mostSamples), at: moment(uint32(w) &^ mostSamples)}
}

func (s sample) packed() uint64 {
	return uint64(math.Float32bits(float32(max(s.value, 1e-9))))<<32 | uint64(s.at) | uint64(min(s.n, mostSamples))
}

// left is what is left of the sample's weight at a moment: e to the power of minus its age in parts of latencyDecay. It
// is called for every endpoint that a request considers, and most were heard of a moment ago.
func (s sample) left(at moment) float64 {
	x := at.since(s.at) * (1 / latencyDecaySeconds)
	if s.n < sureSamples {
		x *= sureSamples / float64(max(s.n, 1))
	}
	if x < 0.5 {
		return 1 / (1 + x*(1+x*(0.5+x*(1.0/6)))) // within 0.2 % of it
	}
	return math.Exp(-x)
}

// hope is what a value is taken to be that is of so few samples: less, so that one bad start costs no share.
func (s sample) hope() float64 { return s.value * float64(s.n) / float64(s.n+1) }

// now is hope at a moment: it goes to 0 while nothing is heard of the endpoint, so that it is tried again.
func (s sample) now(at moment) float64 { return s.hope() * s.left(at) }

// change replaces the value by what f makes of it, which gets n = 0 when there is none.
func (a *average) change(at moment, f func(sample) float64) {
	for range averageTries {
		w := a.word.Load()
		s := unpacked(w)
		next := sample{value: f(s), n: s.n + 1, at: at}
		if a.word.CompareAndSwap(w, next.packed()) {
			return
		}
	}
}

// add takes x into the average over latencyDecay.
func (a *average) add(x float64, at moment) {
	a.change(at, func(s sample) float64 {
		return s.value + max(1/float64(s.n+1), 1-s.left(at), leastPart)*(x-s.value)
	})
}

// addPeak takes x in as Finagle's Peak EWMA does: a greater value counts at once and alone.
func (a *average) addPeak(x float64, at moment) {
	a.change(at, func(s sample) float64 {
		if x >= s.value || s.n == 0 {
			return x
		}
		w := s.left(at)
		return s.value*w + x*(1-w)
	})
}
