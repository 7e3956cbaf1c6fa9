package config

import (
	"errors"
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// Size is a number of bytes.
type Size int64

// Units of Size that a file may use, beside KB, MB, GB and TB, which are powers of 1000.
const (
	KiB Size = 1 << 10
	MiB Size = 1 << 20
	GiB Size = 1 << 30
	TiB Size = 1 << 40
)

// sizeUnit is a unit as it is written behind a number of bytes.
type sizeUnit struct {
	name  string
	bytes Size
}

// sizeUnits lists the units, in the order String tries them.
func sizeUnits() []sizeUnit {
	return []sizeUnit{
		{"TiB", TiB}, {"TB", 1e12}, {"GiB", GiB}, {"GB", 1e9}, {"MiB", MiB}, {"MB", 1e6},
		{"KiB", KiB}, {"KB", 1e3}, {"kB", 1e3}, {"B", 1},
	}
}

// String writes the size with the largest unit that keeps it a whole number: 64KiB, 1GB, 1500.
func (s Size) String() string {
	for _, unit := range sizeUnits() {
		if s != 0 && unit.bytes > 1 && s%unit.bytes == 0 {
			return strconv.FormatInt(int64(s/unit.bytes), 10) + unit.name
		}
	}
	return strconv.FormatInt(int64(s), 10)
}

// ParseSize reads a number of bytes such as 4MiB, 64KB or 65536.
func ParseSize(s string) (Size, error) {
	digits := strings.TrimRight(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
	factor := Size(1)
	if suffix := s[len(digits):]; suffix != "" {
		factor = 0
		for _, unit := range sizeUnits() {
			if unit.name == suffix {
				factor = unit.bytes
			}
		}
		if factor == 0 {
			return 0, fmt.Errorf("%q has no known unit; write B, KiB, MiB, GiB or TiB (powers of 1024), or KB, MB, GB or TB (powers of 1000)", clip(s))
		}
	}
	n, err := strconv.ParseInt(digits, 10, 64)
	switch {
	case errors.Is(err, strconv.ErrRange), err == nil && n > math.MaxInt64/int64(factor):
		return 0, fmt.Errorf("%q is too large; the most is %d bytes", clip(s), int64(math.MaxInt64))
	case err != nil || n < 0 || strings.HasPrefix(digits, "+"):
		return 0, fmt.Errorf("%q is no size; write a whole number of bytes and a unit, as in 64KiB, 4MiB or 1GB", clip(s))
	}
	return Size(n) * factor, nil
}

// Rate is a number of requests a second.
type Rate float64

// maxRate keeps a slip of the pen from passing as a rate.
const maxRate Rate = 1e9

// rateUnits are the spans behind the slash of a rate, in seconds.
func rateUnits() []struct {
	name    string
	seconds Rate
} {
	return []struct {
		name    string
		seconds Rate
	}{{"/s", 1}, {"/m", 60}, {"/h", 3600}}
}

// String writes the rate as ParseRate reads it: by the second, unless another unit spares it a
// long row of digits.
func (r Rate) String() string {
	const short = len("1000000000/s")
	best := ""
	for _, unit := range rateUnits() {
		count := r * unit.seconds
		s := strconv.FormatFloat(float64(count), 'f', -1, 64) + unit.name
		if best == "" || len(best) > short && len(s) < len(best) && count/unit.seconds == r {
			best = s
		}
	}
	return best
}

// ParseRate reads a rate of requests such as 200/s, 12000/m or 0.5/s; more than 0.
func ParseRate(s string) (Rate, error) {
	for _, unit := range rateUnits() {
		digits, ok := strings.CutSuffix(s, unit.name)
		if !ok || !plainNumber(digits) || strings.ContainsAny(digits, "eE") {
			continue
		}
		n, err := strconv.ParseFloat(digits, 64)
		rate := Rate(n) / unit.seconds
		if err != nil || rate <= 0 || rate > maxRate {
			return 0, fmt.Errorf("%q is out of range; write more than 0 and at most %s", clip(s), maxRate)
		}
		return rate, nil
	}
	if plainNumber(s) {
		return 0, fmt.Errorf("%q has no unit; write %s/s for requests a second or %s/m for requests a minute", clip(s), clip(s), clip(s))
	}
	return 0, fmt.Errorf("%q is no rate; write requests and a span, as in 200/s, 12000/m or 0.5/s", clip(s))
}

// ParseDuration reads a duration such as 10s, 1m30s or 500ms; the unit is required.
func ParseDuration(s string) (time.Duration, error) {
	if d, err := time.ParseDuration(s); err == nil && (d != 0 || strings.TrimLeft(s, "+-0123456789.") != "") {
		return d, nil
	}
	if _, err := strconv.ParseFloat(s, 64); err == nil {
		return 0, fmt.Errorf("%q has no unit; write %ss for seconds or %sms for milliseconds", clip(s), clip(s), clip(s))
	}
	return 0, fmt.Errorf("%q is no duration; write numbers with the units h, m, s or ms, as in 10s, 1m30s or 500ms", clip(s))
}

// FormatDuration writes a duration as ParseDuration reads it, without the zero units that
// time.Duration writes: 5m, not 5m0s.
func FormatDuration(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// Regexp is a compiled regular expression in Go's (RE2) syntax.
type Regexp struct{ *regexp.Regexp }

func parseRegexp(s string) (*Regexp, error) {
	if s == "" {
		return nil, errors.New("is empty; leave path_regex out to match every path")
	}
	re, err := regexp.Compile(s)
	if err != nil {
		reason := strings.TrimPrefix(err.Error(), "error parsing regexp: ")
		return nil, fmt.Errorf("%s; write a regular expression in RE2 syntax, as in ^/v[0-9]+/predict$", clip(reason))
	}
	return &Regexp{re}, nil
}

// String writes the range as it is read: 200-299, or 204 for a single code.
func (r StatusRange) String() string {
	if r.Low == r.High {
		return strconv.Itoa(r.Low)
	}
	return fmt.Sprintf("%d-%d", r.Low, r.High)
}

// parseStatusRange reads a status code or a range of them. Informational codes are no answer.
func parseStatusRange(s string) (StatusRange, error) {
	from, to, isRange := strings.Cut(s, "-")
	if !isRange {
		to = from
	}
	low, err1 := strconv.Atoi(from)
	high, err2 := strconv.Atoi(to)
	if err1 != nil || err2 != nil || len(from) != 3 || len(to) != 3 {
		return StatusRange{}, fmt.Errorf("%q is no status; write a code, as in 200, or a range, as in 200-299", clip(s))
	}
	if low < 200 || high > 599 || low > high {
		return StatusRange{}, fmt.Errorf("%q is no range of final statuses; write one from 200 to 599, the lower code first", clip(s))
	}
	return StatusRange{low, high}, nil
}

// MaxWeight is the largest weight of a variant or an endpoint. It keeps sums and ratios of
// weights exact enough in float64.
const MaxWeight = 1e9

// CheckWeight reports why w cannot be the weight of a variant or an endpoint, nil when it can.
func CheckWeight(w float64) error {
	if math.IsNaN(w) || w < 0 || w > MaxWeight {
		return fmt.Errorf("weight %v is out of range; write a number from 0 (no new requests) to 1000000000", w)
	}
	return nil
}

func parseWeight(s string) (float64, error) {
	w, err := strconv.ParseFloat(s, 64)
	if err != nil {
		return 0, fmt.Errorf("%q is no number; write a weight, as in 90 or 0.5", clip(s))
	}
	return w, CheckWeight(w)
}

// ParsePercent reads a percentage from 0 to 100, such as 50, 0.5 or 50%.
func ParsePercent(s string) (float64, error) {
	digits := strings.TrimSuffix(s, "%")
	if !plainNumber(digits) {
		return 0, fmt.Errorf("%q is no percentage; write a number from 0 to 100, as in 50, 0.5 or 50%%", clip(s))
	}
	p, err := strconv.ParseFloat(digits, 64)
	if err != nil || math.Signbit(p) || p > 100 {
		return 0, fmt.Errorf("%q is out of range; write a percentage from 0 to 100, as in 50, 0.5 or 50%%", clip(s))
	}
	return p, nil
}

// formatNumber writes a weight or a percentage, in digits unless they were a long row of zeros.
func formatNumber(n float64) string {
	if n != 0 && n < 1e-6 {
		return strconv.FormatFloat(n, 'e', -1, 64)
	}
	return strconv.FormatFloat(n, 'f', -1, 64)
}
