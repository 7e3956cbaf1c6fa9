package backend

import (
	"math/bits"
	"time"
)

// costs are how long runs of a model take, smoothed, by the number of their rows.
type costs struct {
	// smoothed is of runs of 2^(i-1) to 2^i-1 rows, 0 where there was none yet.
	smoothed [32]time.Duration
}

// smoothing is how much of the newest run is in the mean: an eighth, as in TCP's round-trip times (RFC 6298).
const smoothing = 8

func bucket(rows int) int { return min(bits.Len(uint(rows)), 31) }

func (c *costs) add(rows int, took time.Duration) {
	s := &c.smoothed[bucket(rows)]
	if *s == 0 {
		*s = took
		return
	}
	*s += (took - *s) / smoothing
}

// estimate is how long a run of that many rows takes: what runs of about that size took, else
// the next smaller ones that ran, and 0 before the first.
func (c *costs) estimate(rows int) time.Duration {
	at := bucket(rows)
	for i := at; i > 0; i-- {
		if c.smoothed[i] > 0 {
			return c.smoothed[i]
		}
	}
	return 0
}
