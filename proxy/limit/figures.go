package limit

import (
	"math"
	"math/bits"
	"time"
)

// minRate and maxRate are what newFigures accepts, tokens a second.
const (
	minRate = 1e-9
	maxRate = 1e9
)

// maxFull bounds a bucket in ticks: 13 days of nanoseconds, and for a bucket that takes longer to fill a tick
// is longer. It leaves room for what is added to a clock, even to one that jumps.
const maxFull = 1 << 50

// figures are a rate and a burst in ticks. A tick is what a bucket gains in one or two nanoseconds (longer
// for a bucket that takes weeks to fill), and a token is a power of two of them. So a cost in whole tokens
// is exact whatever the rate, where one in nanoseconds is not, and errors of the clock do not add up.
type figures struct {
	perNano float64 // ticks a nanosecond, at most 1
	speed   uint64  // perNano × 2^63, to read clocks without rounding
	token   float64 // ticks a token
	full    int64   // ticks of a full bucket
	shift   uint8   // token is 1<<shift
}

func newFigures(rate, burst float64) figures {
	if !(rate >= minRate) { // NaN too
		rate = minRate
	}
	rate = min(rate, maxRate)
	burst = min(max(burst, 1), maxFull)
	shift := 0
	for rate*math.Ldexp(1, shift+1) <= 1e9 && math.Ldexp(burst, shift+1) <= maxFull {
		shift++
	}
	token := math.Ldexp(1, shift)
	f := figures{perNano: rate * token / 1e9, token: token, full: int64(burst * token), shift: uint8(shift)}
	f.speed = max(1, uint64(f.perNano*(1<<63)))
	return f
}

// price is a cost in ticks, and more than a full bucket when it is above the burst.
func (f *figures) price(cost float64) int64 {
	ticks := cost * f.token
	switch {
	case !(ticks > 0):
		return 0
	case ticks > float64(f.full):
		return f.full + 1
	}
	return int64(math.Ceil(ticks))
}

// take is the algorithm: due is when the bucket is full, next when it is afterwards. wait is 0 when it is
// granted, else the ticks until it would be, and next is then due.
func (f *figures) take(due, price, now int64) (next, wait int64) {
	due = max(due, now)
	if price > f.full {
		return due, math.MaxInt64
	}
	if over := due - now + price - f.full; over > 0 {
		return due, over
	}
	return due + price, 0
}

// tokens are the whole tokens in a bucket that is full at due.
func (f *figures) tokens(due, now int64) int {
	return int((f.full - max(due-now, 0)) >> f.shift)
}

// duration is how long to wait until a clock has moved by that many ticks.
func (f *figures) duration(ticks int64) time.Duration {
	if ticks == 0 {
		return 0
	}
	// One more, as readings of the clock are rounded.
	if d := math.Ceil(float64(ticks+1) / f.perNano); ticks < math.MaxInt64 && d < math.MaxInt64 {
		return time.Duration(d)
	}
	return Never
}

// convert returns the due of these figures as one of to. A debt is kept in tokens, and the time since a
// bucket was full as time, which tells the older of two.
func (f *figures) convert(due, now int64, to figures) int64 {
	if debt := due - now; debt > 0 {
		return now + int64(min(math.Ceil(float64(debt)*(to.token/f.token)), float64(to.full)))
	}
	return now - int64(min(float64(now-due)*(to.perNano/f.perNano), float64(2*to.full)))
}

// clock turns the callers' nanoseconds into ticks that never go back. Each reading is made from start, so that
// roundings do not add up.
type clock struct {
	start, base int64 // nanoseconds, and ticks at that time
	last, ticks int64 // the latest reading
}

// unsteady is by how much the callers' clocks may differ: each reads the time before it uses it, and one may be
// held up in between. Two that differ by more and take turns make time pass twice.
const unsteady = int64(time.Minute)

func (c *clock) read(now int64, f *figures) int64 {
	step := now - c.last
	switch {
	case step <= -unsteady:
		c.restart(now)
	case step <= 0:
	case float64(step)*f.perNano >= float64(2*f.full):
		// Every bucket has filled and been full for as long again, and more makes no difference to
		// anybody. So a clock that jumps does not make ticks overflow.
		c.ticks += 2 * f.full
		c.restart(now)
	default:
		c.last = now
		high, low := bits.Mul64(uint64(now-c.start), f.speed)
		c.ticks = c.base + int64(high<<1|low>>63)
	}
	return c.ticks
}

// restart makes now the time at which the ticks are what they are.
func (c *clock) restart(now int64) {
	c.start, c.base, c.last = now, c.ticks, now
}
