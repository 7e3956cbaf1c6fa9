package bench

import (
	"fmt"
	"math"
	"math/rand/v2"
	"time"
)

// A Pacer is a schedule of arrivals. It is used from one goroutine at a time.
type Pacer interface {
	// Next returns when the next request is due, as an offset from the start of the attack.
	// Offsets never decrease; Never means that the schedule has ended.
	Next() time.Duration
}

// Never is when nothing is due.
const Never = time.Duration(math.MaxInt64)

// NewPacer returns the schedule called arrivals, which must be one that a rate alone describes,
// at rate requests a second. A [Schedule] describes the others too.
func NewPacer(arrivals string, rate float64, seed uint64) (Pacer, error) {
	switch arrivals {
	case ArrivalsConstant, ArrivalsPoisson:
		return Schedule{Arrivals: arrivals, Rate: rate, Seed: seed}.Pacer()
	}
	return nil, fmt.Errorf("arrivals %q: must be %s or %s", arrivals, ArrivalsConstant, ArrivalsPoisson)
}

// MaxRate is the highest rate a schedule may have, in requests a second.
const MaxRate = 10_000_000

// seconds is so many seconds as an offset; Never when it is more than one can hold.
func seconds(s float64) time.Duration {
	if ns := s * float64(time.Second); ns < math.MaxInt64 {
		return time.Duration(ns)
	}
	return Never
}

type constant struct {
	rate float64
	n    uint64
}

// Constant spaces requests evenly: the n-th (from 0) is due at n ÷ rate seconds. Each offset is
// computed from n, so rounding does not add up.
func Constant(rate float64) Pacer { return &constant{rate: rate} }

func (c *constant) Next() time.Duration {
	due := seconds(float64(c.n) / c.rate)
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
	return seconds(p.at)
}

// Each use of a seed draws from a stream of its own, so that more users do not change the schedule.
const (
	streamArrivals = 0x9e3779b97f4a7c15
	streamUsers    = 0xbf58476d1ce4e5b9
	streamImages   = 0x94d049bb133111eb
	streamBodies   = 0xd6e8feb86659fd93
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
