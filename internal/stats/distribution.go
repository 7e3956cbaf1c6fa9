package stats

import (
	"errors"
	"fmt"
	"math"
)

// Scale says which values a bin of a Distribution counts. Scales are fixed, so that what two
// programs counted can be compared.
type Scale string

const (
	// UnitScale is for probabilities: 100 equal bins from 0 to 1, which count what lies outside
	// in the first and the last.
	UnitScale Scale = "unit"
	// LogScale is for any number: the middle bin is about zero (closer than 2^-16), those to both sides of it cut
	// every power of two into 16 equal parts, up to 2^40. A bin is at most 1/16 of its value wide. The last bin
	// counts what is no number (NaN), so that it is a drift when values go missing.
	LogScale Scale = "log"
)

const (
	unitBins = 100

	logBits  = 4
	logParts = 1 << logBits // of a power of two
	logLeast = -16          // the first power of two that has bins
	logMost  = 40           // the first that has none
	logSide  = (logMost - logLeast) * logParts
)

// Bins is how many bins the scale has, 0 for an unknown scale.
func (s Scale) Bins() int {
	switch s {
	case UnitScale:
		return unitBins
	case LogScale:
		return 2*logSide + 2
	}
	return 0
}

// Bin is the bin that counts v, from 0, in ascending order of the values. On the UnitScale v is not NaN.
func (s Scale) Bin(v float64) int {
	if s == UnitScale {
		return int(min(max(v*unitBins, 0), unitBins-1))
	}
	if math.IsNaN(v) {
		return 2*logSide + 1
	}
	// The exponent of a float64 and the first four bits of its fraction number the parts of all powers of two.
	side := int(math.Float64bits(v)>>(52-logBits)&(1<<(11+logBits)-1)) - (1023+logLeast)<<logBits + 1
	side = min(max(side, 0), logSide)
	if v < 0 {
		side = -side
	}
	return logSide + side
}

// Distribution is how many values fell into each bin of a scale; bins that are not there count 0.
type Distribution struct {
	Scale  Scale          `json:"scale"`
	Counts map[int]uint64 `json:"counts"`
}

// NewDistribution counts the values, of which on the UnitScale none is NaN.
func NewDistribution(s Scale, values []float64) Distribution {
	d := Distribution{Scale: s, Counts: make(map[int]uint64)}
	for _, v := range values {
		d.Counts[s.Bin(v)]++
	}
	return d
}

// Count is how many values there are.
func (d *Distribution) Count() (n uint64) {
	for _, c := range d.Counts {
		n += c
	}
	return n
}

// mostValues bounds a distribution that comes from outside, so that sums of counts stay exact.
const mostValues = 1 << 50

// Check says what is wrong with a distribution that comes from outside.
func (d *Distribution) Check() error {
	bins := d.Scale.Bins()
	if bins == 0 {
		return fmt.Errorf("the scale is %q; want %q or %q", string(d.Scale), UnitScale, LogScale)
	}
	n := uint64(0)
	for bin, c := range d.Counts {
		if bin < 0 || bin >= bins {
			return fmt.Errorf("bin %d is not on the scale %q; want 0 to %d", bin, d.Scale, bins-1)
		}
		if c > mostValues || n+c > mostValues {
			return fmt.Errorf("more than %d values are counted", uint64(mostValues))
		}
		n += c
	}
	if n == 0 {
		return errors.New("no value is counted")
	}
	return nil
}
