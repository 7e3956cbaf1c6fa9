package plot

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// scale maps values between low and high to positions between from and to.
type scale struct {
	log       bool
	low, high float64
	from, to  float64
}

// position of v, which must be more than 0 on a logarithmic scale.
func (s scale) position(v float64) float64 {
	low, high := s.low, s.high
	if s.log {
		v, low, high = math.Log(v), math.Log(low), math.Log(high)
	}
	return s.from + (v-low)/(high-low)*(s.to-s.from)
}

// shows reports whether v can be drawn on the scale at all.
func (s scale) shows(v float64) bool {
	return !math.IsNaN(v) && !math.IsInf(v, 0) && (!s.log || v > 0)
}

// tick is a labelled value of an axis.
type tick struct {
	at    float64
	label string
}

// span widens [low, high] so that a scale over it has a length.
func span(log bool, low, high float64) (float64, float64) {
	switch {
	case low < high:
		return low, high
	case log:
		return low / 2, high * 2
	case low == 0:
		return 0, 1
	}
	return low - math.Abs(low)/2, high + math.Abs(high)/2
}

// round moves the ends of the scale outward to the nearest ticks of about n.
func (s *scale) round(n int) {
	if s.log {
		s.low, s.high = floor125(s.low), ceil125(s.high)
		return
	}
	step := ceil125((s.high - s.low) / float64(n))
	s.low, s.high = math.Floor(s.low/step)*step, math.Ceil(s.high/step)*step
}

// ticks returns about n ticks, the first at or above low, the last at or below high.
func (s scale) ticks(n int) []tick {
	if s.log {
		return s.logTicks(n)
	}
	step := ceil125((s.high - s.low) / float64(n))
	var ticks []tick
	// Counting in steps keeps rounding from adding up; the hair above high is for the last one's.
	for i := math.Ceil(s.low/step - 1e-9); i*step <= s.high+step*1e-9; i++ {
		ticks = append(ticks, tick{i * step, number(i * step)})
	}
	return ticks
}

// logTicks are the powers of ten, or 1, 2 and 5 of each when that gives no more than 2n.
func (s scale) logTicks(n int) []tick {
	decades := math.Log10(s.high / s.low)
	every := math.Ceil(decades / float64(2*n))
	var ticks []tick
	for e := math.Floor(math.Log10(s.low)); e <= math.Log10(s.high)+1e-9; e += max(1, every) {
		for _, m := range []float64{1, 2, 5} {
			v := m * math.Pow(10, e)
			if v < s.low*(1-1e-9) || v > s.high*(1+1e-9) || m > 1 && 3*decades > float64(2*n) {
				continue
			}
			ticks = append(ticks, tick{v, number(v)})
		}
	}
	return ticks
}

// percentileTicks label values of 1 ÷ (1 − quantile): 0%, 50%, 90%, 99% and so on, up to high.
func percentileTicks(high float64) []tick {
	ticks := []tick{{1, "0%"}, {2, "50%"}, {10, "90%"}}
	for digits, at := 0, 100.0; at <= high*(1+1e-9) && digits < 8; digits, at = digits+1, at*10 {
		label := "99"
		if digits > 0 {
			label += "." + strings.Repeat("9", digits)
		}
		ticks = append(ticks, tick{at, label + "%"})
	}
	return ticks
}

// ceil125 is the least of 1, 2 and 5 times a power of ten that is at least v, for v > 0.
func ceil125(v float64) float64 {
	power := math.Pow(10, math.Floor(math.Log10(v)))
	for _, m := range []float64{1, 2, 5} {
		if v <= m*power*(1+1e-9) {
			return m * power
		}
	}
	return 10 * power
}

// floor125 is the greatest of 1, 2 and 5 times a power of ten that is at most v, for v > 0.
func floor125(v float64) float64 {
	power := math.Pow(10, math.Floor(math.Log10(v)))
	for _, m := range []float64{5, 2} {
		if v >= m*power*(1-1e-9) {
			return m * power
		}
	}
	return power
}

// number writes v with at most four digits: 0.25, 1500, 15k, 2.5M.
func number(v float64) string {
	switch a := math.Abs(v); {
	case a < 1e-12:
		return "0"
	case a >= 1e9:
		return short(v/1e9) + "G"
	case a >= 1e6:
		return short(v/1e6) + "M"
	case a >= 1e4:
		return short(v/1e3) + "k"
	}
	return short(v)
}

func short(v float64) string {
	s := fmt.Sprintf("%.4g", v)
	if strings.ContainsRune(s, 'e') {
		return strconv.FormatFloat(v, 'g', 4, 64)
	}
	return s
}
