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

// maxDebt bounds a debt in ticks: more than a year of the rate. Together with maxFull and the ticks of a clock it
// stays far from overflow.
const maxDebt = 1 << 55

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
	f := figures{perNano: rate * token / 1e9, token: token, full: int64(burst * token)}
	f.speed = max(1, uint64(f.perNano*(1<<63)))
	return f
}

// price is a cost in ticks.
func (f *figures) price(cost float64) int64 {
	ticks := cost * f.token
	switch {
	case !(ticks > 0):
		return 0
	case ticks > maxDebt:
		return maxDebt
	}
	return int64(math.Ceil(ticks))
}

// take is the algorithm: due is when the bucket is full, next when it is afterwards. wait is in how many ticks
// the bucket has what is asked for, or is full where that is more than it holds. Up to most of them are granted.
func (f *figures) take(due, price, most, now int64) (next, wait int64, ok bool) {
	due = max(due, now)
	if wait = max(due-now+min(price, f.full)-f.full, 0); wait > most {
		return due, wait, false
	}
	return min(due+price, now+maxDebt), wait, true
}

// tokens are the whole tokens in a bucket that is full at due.
func (f *figures) tokens(due, now int64) int {
	shift := math.Float64bits(f.token)>>52 - 1023 // it is a power of two
	return int(max(f.full-max(due-now, 0), 0) >> shift)
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

// ticks is how far a clock moves in d, rounded down.
func (f *figures) ticks(d time.Duration) int64 {
	switch {
	case d <= 0:
		return 0
	case d == Never:
		return math.MaxInt64
	}
	return int64(float64(d) * f.perNano) // which is less than d
}

// convert returns the due of these figures as one of to. What was used is kept in tokens, up to a full bucket, and
// so is a debt beyond it; the time since a bucket was full is kept as time, which tells the older of two.
func (f *figures) convert(due, now int64, to figures) int64 {
	if used := due - now; used > 0 {
		inside, ratio := min(used, f.full), to.token/f.token
		after := min(math.Ceil(float64(inside)*ratio), float64(to.full)) + math.Ceil(float64(used-inside)*ratio)
		return now + int64(min(after, maxDebt))
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

// read returns the ticks at now. latest is when the last of the buckets is full.
func (c *clock) read(now int64, f *figures, latest int64) int64 {
	step := now - c.last
	switch {
	case step <= -unsteady:
		c.restart(now)
	case step <= 0:
	case float64(step)*f.perNano >= float64(2*f.full) && c.leap(step, f, latest):
		c.restart(now)
	default:
		c.last = now
		high, low := bits.Mul64(uint64(now-c.start), f.speed)
		c.ticks = c.base + int64(high<<1|low>>63)
	}
	return c.ticks
}

// leap goes on to where every bucket has filled and been full for long, if the step leads there or further, since
// more makes no difference to anybody. So a clock that jumps does not make ticks overflow.
func (c *clock) leap(step int64, f *figures, latest int64) bool {
	enough := max(latest-c.ticks, 0) + 2*f.full
	if float64(step)*f.perNano < float64(enough) {
		return false
	}
	c.ticks += enough
	return true
}

// restart makes now the time at which the ticks are what they are.
func (c *clock) restart(now int64) {
	c.start, c.base, c.last = now, c.ticks, now
}
