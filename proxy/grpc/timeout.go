package grpc

import (
	"math"
	"strconv"
	"time"
)

// maxTimeoutDigits is how many digits a grpc-timeout has at most.
const maxTimeoutDigits = 8

// ParseTimeout reads the value of grpc-timeout: 1 to 8 digits, and H, M, S, m (milliseconds), u or n behind them.
// What is longer than a Duration can say is as long as it can.
func ParseTimeout(v []byte) (d time.Duration, ok bool) {
	digits := len(v) - 1
	if digits < 1 || digits > maxTimeoutDigits {
		return 0, false
	}
	var unit time.Duration
	switch v[digits] {
	case 'H':
		unit = time.Hour
	case 'M':
		unit = time.Minute
	case 'S':
		unit = time.Second
	case 'm':
		unit = time.Millisecond
	case 'u':
		unit = time.Microsecond
	case 'n':
		unit = time.Nanosecond
	default:
		return 0, false
	}
	n := time.Duration(0)
	for _, c := range v[:digits] {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + time.Duration(c-'0')
	}
	if n > math.MaxInt64/unit {
		return math.MaxInt64, true
	}
	return n * unit, true
}

// maxInUnit is the longest time that is said in milliseconds.
const maxInUnit = 99_999_999 * time.Millisecond

// AppendTimeout appends what is left of a time as a grpc-timeout: in milliseconds, of a total that does not fit in
// seconds; rounded down, at least 1. With the same total a shorter time never has a longer text.
func AppendTimeout(b []byte, left, total time.Duration) []byte {
	unit, letter := time.Millisecond, byte('m')
	if total > maxInUnit {
		unit, letter = time.Second, 'S'
	}
	return append(strconv.AppendInt(b, min(max(int64(left/unit), 1), 99_999_999), 10), letter)
}

// Pushback reads the value of grpc-retry-pushback-ms, with which a server says when it may be asked again; false:
// not at all, which is what an invalid value says, too.
func Pushback(v []byte) (after time.Duration, again bool) {
	ms, err := strconv.ParseInt(string(v), 10, 32)
	if err != nil || ms < 0 {
		return 0, false
	}
	return time.Duration(ms) * time.Millisecond, true
}
