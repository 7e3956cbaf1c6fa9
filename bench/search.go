package bench

import (
	"fmt"
	"math"
)

// Bounds and defaults of a [Search].
const (
	DefaultPrecision = 0.05
	MaxProbes        = 40  // none needs more from a sensible start
	lowestRate       = 0.1 // requests a second, below which a search gives up
)

// Search finds the highest rate that is kept, by trying. It doubles a rate until one is not kept,
// or halves it until one is, and then tries the middle of what is left. What it knows is only
// what it was told, so that it can be tested without a target.
type Search struct {
	next      float64
	ceiling   float64
	precision float64
	low, high float64 // the highest kept, 0: none; the lowest not kept, infinite: none
	again     bool    // next is tried for the second time
	sure      bool    // high was missed twice
	probes    int
	end       string
}

// NewSearch begins at a rate and goes no higher than the ceiling, both in requests a second. It
// ends when the lowest rate that was not kept is within the precision, such as 0.05, of the
// highest that was.
func NewSearch(start, ceiling, precision float64) (*Search, error) {
	switch {
	case !(start >= lowestRate && start <= MaxRate):
		return nil, fmt.Errorf("rate %v: a search must begin at %v to %d requests a second", start, lowestRate, MaxRate)
	case !(ceiling >= start && ceiling <= MaxRate):
		return nil, fmt.Errorf("highest rate %v: must be at least the first, %v, and at most %d requests a second", ceiling, start, MaxRate)
	case !(precision >= 0.001 && precision <= 1):
		return nil, fmt.Errorf("precision %v: must be 0.1%% to 100%%", precision)
	}
	return &Search{next: start, ceiling: ceiling, precision: precision, high: math.Inf(1)}, nil
}

// Next is the rate to try; 0 when the search has ended.
func (s *Search) Next() float64 {
	if s.end != "" {
		return 0
	}
	return s.next
}

// Tell says what became of the rate that Next gave. A rate that was missed is tried once more, at
// once when it was missed by little, at the end when by far: one pause of a shared machine is not
// the target's limit.
func (s *Search) Tell(kept, byFar bool) {
	s.probes++
	switch {
	case kept:
		s.low = s.next
		if s.high <= s.low {
			s.high = math.Inf(1) // the first time was a pause
		}
	case !byFar && !s.again && s.probes < MaxProbes:
		s.again = true
		return
	default:
		s.high, s.sure = s.next, s.again
	}
	s.again = false
	s.choose()
}

// choose sets the next rate, or why there is none.
func (s *Search) choose() {
	switch near := s.low > 0 && s.high <= s.low*(1+s.precision)*(1+1e-9); {
	case near && s.sure:
		s.end = "found"
	case s.low >= s.ceiling:
		s.end = "the highest rate allowed was kept"
	case s.low == 0 && s.high/2 < lowestRate:
		s.end = "no rate was kept"
	case s.probes >= MaxProbes:
		s.end = fmt.Sprintf("stopped after %d probes", MaxProbes)
	case near:
		s.next, s.again = s.high, true
	case s.low == 0:
		s.next = s.high / 2
	case math.IsInf(s.high, 1):
		s.next = min(2*s.low, s.ceiling)
	default:
		s.next = math.Sqrt(s.low * s.high) // the middle by ratio, as the precision is one
	}
}

// Found returns the highest rate that was kept, 0 when none was, the lowest one that was not, 0
// when none was tried, and why the search ended; "" while it goes on.
func (s *Search) Found() (low, high float64, end string) {
	if !math.IsInf(s.high, 1) {
		high = s.high
	}
	return s.low, high, s.end
}
