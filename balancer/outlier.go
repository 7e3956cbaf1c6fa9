package balancer

import (
	"cmp"
	"fmt"
	"time"

	"weir/config"
)

// trialSuccesses is how many requests in a row an endpoint must answer on its return from an
// ejection before it may fail one again. One that still fails 60 % passes in 1 of 100 returns, one
// that always fails 1 % is ejected again in 1 of 20.
const trialSuccesses = 5

// standing is what outlier detection holds against one endpoint. It is pure state: judge, eject and
// readmit decide by their arguments, the loop around them (tend) gathers these and tells others.
// The rules are Envoy's (outlier detection, with a jitter on top), and the trial is weir's.
type standing struct {
	until time.Time // the end of the ejection; zero while there is none
	well  time.Time // since when nothing is held against the endpoint; zero until its first return
	row   int       // ejections in a row, as far as good times have not made up for them
}

// evidence is what requests met at an endpoint, without those that say nothing about it as it is
// now: their clients went away, or they were sent before its last return.
type evidence struct {
	fault    string        // of its hardware; "": none is known
	row      int           // failures in a row, when they have become too many, or came on trial
	trial    bool          // whether the endpoint was on trial when the last of them came
	last     Outcome       // of them
	requests int64         // in an interval that is over; 0 while it is not
	failed   int64         // of them
	median   time.Duration // of the latency of those that succeeded; 0 when they are too few
}

// judge returns why an endpoint is to be ejected, "" when it is not: its hardware is faulty, it failed on trial, it failed
// c.ConsecutiveFailures in a row, or it failed c.FailurePercent of at least c.MinRequests in an
// interval, or in one it failed too much or was too slow by the standards of the others. An endpoint that is
// ejected is not judged: what ends there now was sent before.
func (s *standing) judge(ev evidence, all peers, c *config.Outlier) (why string) {
	switch {
	case s.ejected():
		return ""
	case ev.fault != "":
		return ev.fault
	case ev.trial && ev.row > 0:
		return fmt.Sprintf("it failed again on its return: %v", ev.last)
	case c.ConsecutiveFailures > 0 && ev.row >= c.ConsecutiveFailures:
		return fmt.Sprintf("%d failures in a row: %v", ev.row, ev.last)
	case c.FailurePercent > 0 && ev.requests > 0 && ev.requests >= int64(c.MinRequests) && ev.percent() >= c.FailurePercent:
		return fmt.Sprintf("%.0f %% of %d requests failed", ev.percent(), ev.requests)
	}
	if why := all.deviation(ev, c); why != "" {
		return why
	}
	return all.slow(ev, c)
}

// percent is the part of the interval's requests that failed. requests must not be 0.
func (ev evidence) percent() float64 { return 100 * float64(ev.failed) / float64(ev.requests) }

// severity orders endpoints by who is to be ejected first when not all can be, from 0 to 100.
func (ev evidence) severity() float64 {
	if ev.row > 0 || ev.fault != "" || ev.requests == 0 {
		return 100
	}
	return ev.percent()
}

// worst puts who is to be ejected first in front: by severity, and the slowest of those that fail alike.
func (ev evidence) worst(other evidence) int {
	return cmp.Or(cmp.Compare(other.severity(), ev.severity()), cmp.Compare(other.median, ev.median))
}

func (s *standing) ejected() bool { return !s.until.IsZero() }

// eject ends the endpoint's use for c.Ejection, times the ejections in a row with this one, at most
// c.MaxEjection, ± 10 % by chance (u from 0 to 1) so that endpoints ejected together do not come
// back together. Each c.Ejection for which the endpoint was well makes up for one ejection.
func (s *standing) eject(now time.Time, c *config.Outlier, u float64) {
	base := max(c.Ejection, 1)
	s.forgive(now, base)
	// A row that goes on when the time is the longest already would only take longer to forget.
	longest := int((c.MaxEjection + base - 1) / base)
	s.row = max(1, min(s.row+1, longest))
	d := min(float64(base)*float64(s.row), float64(c.MaxEjection))
	low, high := 0.9*d, min(1.1*d, float64(c.MaxEjection))
	s.until = now.Add(time.Duration(low + (high-low)*u))
}

// forgive takes back an ejection for each base time that the endpoint has been well.
func (s *standing) forgive(now time.Time, base time.Duration) {
	if !s.well.IsZero() {
		s.row = max(0, s.row-int(now.Sub(s.well)/base))
	}
}

// spare is eject where there is no room for it: the endpoint goes on, but it is not well.
func (s *standing) spare(now time.Time, c *config.Outlier) {
	s.forgive(now, max(c.Ejection, 1))
	s.well = now
}

// due reports whether the ejection is over.
func (s *standing) due(now time.Time) bool { return s.ejected() && !now.Before(s.until) }

// readmit ends the ejection.
func (s *standing) readmit(now time.Time) { s.until, s.well = time.Time{}, now }

// census counts the endpoints of a pool that have a weight > 0.
type census struct {
	all     int
	ejected int
	able    int // pass their probes, or have none, and do not drain; ejected or not
	left    int // of them, not ejected
}

// count adds an endpoint.
func (n *census) count(e *Endpoint) {
	n.all++
	ejected, able := e.Ejected(), e.Healthy() && !e.Draining()
	if ejected {
		n.ejected++
	}
	if able {
		n.able++
	}
	if able && !ejected {
		n.left++
	}
}

// mayEject reports whether one more endpoint may be ejected, which is able or not: there is
// always room for one, and otherwise for c.MaxEjectedPercent of all, but one that is able and not
// ejected must be left.
func (n *census) mayEject(able bool, c *config.Outlier) bool {
	left := n.left
	if able {
		left--
	}
	room := max(1, int(c.MaxEjectedPercent/100*float64(n.all)+1e-9))
	return left > 0 && n.ejected < room
}

// panics reports whether ejected endpoints are to be used all the same: there are some that could
// be, and of the able ones fewer than threshold percent are not ejected. With a threshold of 0 that
// is when none is left, as when the probes of the last one fail: it is not to be ejections
// that take a pool's last endpoint.
func (n *census) panics(threshold float64) bool {
	return n.left < n.able && (n.left == 0 || 100*float64(n.left) < threshold*float64(n.able))
}
