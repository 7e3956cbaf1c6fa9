package main

import (
	"fmt"
	"time"
)

// shortTime is a time of the reader's day, with the date where it is another day's.
func shortTime(t, now time.Time) string {
	t = t.In(now.Location())
	switch {
	case t.Format(time.DateOnly) == now.Format(time.DateOnly):
		return t.Format(time.TimeOnly)
	case now.Sub(t).Abs() < 180*24*time.Hour:
		return t.Format("Jan _2 15:04")
	}
	return t.Format("Jan _2  2006")
}

// about is a span of time for people, in two units at most; none is negative.
func about(d time.Duration) string {
	s := int(max(d, 0).Round(time.Second).Seconds())
	two := func(big int, bigUnit string, small int, smallUnit string) string {
		if small == 0 {
			return fmt.Sprint(big, bigUnit)
		}
		return fmt.Sprint(big, bigUnit, small, smallUnit)
	}
	const minute, hour, day = 60, 60 * 60, 24 * 60 * 60
	switch {
	case s < minute:
		return fmt.Sprint(s, "s")
	case s < hour:
		return two(s/minute, "m", s%minute, "s")
	case s < day:
		return two(s/hour, "h", s%hour/minute, "m")
	}
	return two(s/day, "d", s%day/hour, "h")
}
