package bench

import (
	"fmt"
	"math/rand/v2"
	"time"
)

// A Pacer is a schedule of arrivals. It is used from one goroutine at a time.
type Pacer interface {
	// Next returns when the next request is due, as an offset from the start of the attack.
	// Offsets never decrease.
	Next() time.Duration
}

// Names of the arrival processes that [NewPacer] knows.
const (
	ArrivalsConstant = "constant"
	ArrivalsPoisson  = "poisson"
)

// NewPacer returns the schedule called arrivals at rate requests a second.
func NewPacer(arrivals string, rate float64, seed uint64) (Pacer, error) {
	if !(rate > 0 && rate <= MaxRate) {
		return nil, fmt.Errorf("rate %v: must be more than 0 and at most %.0f requests a second", rate, float64(MaxRate))
	}
	switch arrivals {
	case ArrivalsConstant:
		return Constant(rate), nil
	case ArrivalsPoisson:
		return Poisson(rate, seed), nil
	}
	return nil, fmt.Errorf("arrivals %q: must be %s or %s", arrivals, ArrivalsConstant, ArrivalsPoisson)
}

// MaxRate is the highest rate a schedule may have, in requests a second.
const MaxRate = 10_000_000

type constant struct {
	rate float64
	n    uint64
}

// Constant spaces requests evenly: the n-th (from 0) is due at n ÷ rate seconds. Each offset is
// computed from n, so rounding does not add up.
func Constant(rate float64) Pacer { return &constant{rate: rate} }

func (c *constant) Next() time.Duration {
	due := time.Duration(float64(c.n) / c.rate * float64(time.Second))
	c.n++
	return due
}

type poisson struct {
	mean float64 // seconds between arrivals
	at   float64 // seconds
	rand *rand.Rand
}

// Poisson draws exponential gaps of mean 1 ÷ rate, as independent users produce them. The same
// seed draws the same gaps.
func Poisson(rate float64, seed uint64) Pacer {
	return &poisson{mean: 1 / rate, rand: rand.New(rand.NewPCG(seed, streamArrivals))}
}

func (p *poisson) Next() time.Duration {
	p.at += p.rand.ExpFloat64() * p.mean
	return time.Duration(p.at * float64(time.Second))
}

// Each use of a seed draws from a stream of its own, so that more users do not change the schedule.
const (
	streamArrivals = 0x9e3779b97f4a7c15
	streamUsers    = 0xbf58476d1ce4e5b9
	streamImages   = 0x94d049bb133111eb
)

// draw returns the n-th value of a seed's stream, uniform in [0, bound). Being a function of n,
// it needs no state to share between connections.
func draw(seed, stream, n uint64, bound int) int {
	z := seed ^ stream + n*0x9e3779b97f4a7c15
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	z ^= z >> 31
	return int(z % uint64(bound))
}
