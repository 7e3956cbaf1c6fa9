package balancer

import (
	"testing"
	"time"

	"weir/config"
)

// start is any moment; pure judgements know no other clock.
var start = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func TestJudge(t *testing.T) {
	c := config.DefaultOutlier()
	c.FailurePercent = 50
	for _, test := range []struct {
		name string
		ev   evidence
		want string
	}{
		{"nothing", evidence{}, ""},
		{"a row too short", evidence{row: 4, last: Reset}, ""},
		{"a row", evidence{row: 5, last: Reset}, "5 failures in a row: reset"},
		{"a longer row", evidence{row: 10, last: Status}, "10 failures in a row: status"},
		{"on trial", evidence{row: 1, trial: true, last: Timeout}, "it failed again on its return: timeout"},
		{"on trial, nothing failed", evidence{trial: true}, ""},
		{"too few requests", evidence{requests: 19, failed: 19}, ""},
		{"just enough of both", evidence{requests: 20, failed: 10}, "50 % of 20 requests failed"},
		{"not enough failures", evidence{requests: 50, failed: 24}, ""},
		{"a percentage", evidence{requests: 50, failed: 30}, "60 % of 50 requests failed"},
		{"late failures counted twice for a moment", evidence{requests: -1, failed: -1}, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			var s standing
			if got := s.judge(test.ev, peers{}, &c); got != test.want {
				t.Errorf("%q, want %q", got, test.want)
			}
			s.until = start
			if got := s.judge(test.ev, peers{}, &c); got != "" {
				t.Errorf("%q although it is ejected already", got)
			}
		})
	}
	off := config.Outlier{Interval: time.Second, Ejection: time.Second, MaxEjection: time.Second}
	var s standing
	if got := s.judge(evidence{row: 1000, requests: 1000, failed: 1000}, peers{}, &off); got != "" {
		t.Errorf("%q where neither criterion is set", got)
	}
}

func TestEjectionsGrowAndAreForgotten(t *testing.T) {
	c := config.Outlier{Ejection: 30 * time.Second, MaxEjection: 100 * time.Second}
	for _, test := range []struct {
		name  string
		wells []time.Duration // how long the endpoint is well before each ejection; < 0: how long it is spared
		want  []time.Duration // how long each is, in the middle of its jitter
	}{
		{"one", []time.Duration{time.Hour}, []time.Duration{30 * time.Second}},
		{"in a row, up to the longest", make([]time.Duration, 6), []time.Duration{
			30 * time.Second, 60 * time.Second, 90 * time.Second, 95 * time.Second, 95 * time.Second, 95 * time.Second,
		}},
		{"well nearly long enough", []time.Duration{0, 29 * time.Second}, []time.Duration{30 * time.Second, 60 * time.Second}},
		{"well for one", []time.Duration{0, 0, 30 * time.Second, 30 * time.Second}, []time.Duration{
			30 * time.Second, 60 * time.Second, 60 * time.Second, 60 * time.Second,
		}},
		{"spared for long enough to be forgiven, had it been well", []time.Duration{0, -10 * time.Minute}, []time.Duration{30 * time.Second, 60 * time.Second}},
		{"a long row is not forgotten more slowly", append(make([]time.Duration, 50), 2*time.Minute), append(
			append([]time.Duration{30 * time.Second, 60 * time.Second, 90 * time.Second}, repeat(95*time.Second, 47)...), 30*time.Second)},
	} {
		t.Run(test.name, func(t *testing.T) {
			var s standing
			now := start
			for i, well := range test.wells {
				for ; well < 0; well += 10 * time.Second { // not well, but spared
					now = now.Add(10 * time.Second)
					s.spare(now, &c)
				}
				now = now.Add(well)
				s.eject(now, &c, 0.5)
				if got := s.until.Sub(now); got.Round(time.Millisecond) != test.want[i] {
					t.Fatalf("ejection %d lasts %v, want %v", i+1, got, test.want[i])
				}
				if s.due(s.until.Add(-1)) || !s.due(s.until) {
					t.Fatal("the ejection is not over exactly at its end")
				}
				now = s.until
				s.readmit(now)
				if s.ejected() || s.due(now.Add(time.Hour)) {
					t.Fatal("ejected after its return")
				}
			}
		})
	}
}

func repeat(d time.Duration, n int) (out []time.Duration) {
	for range n {
		out = append(out, d)
	}
	return out
}

func TestEjectionsAreSpreadAndNeverTooLong(t *testing.T) {
	for _, test := range []struct{ longest, least, most time.Duration }{
		{300 * time.Second, 27 * time.Second, 33 * time.Second},
		{30 * time.Second, 27 * time.Second, 30 * time.Second},
		{20 * time.Second, 18 * time.Second, 20 * time.Second},
	} {
		c := config.Outlier{Ejection: 30 * time.Second, MaxEjection: test.longest}
		var shortest, longest standing
		shortest.eject(start, &c, 0)
		longest.eject(start, &c, 1)
		if a, b := shortest.until.Sub(start), longest.until.Sub(start); a != test.least || b != test.most {
			t.Errorf("max_ejection %v: %v to %v, want %v to %v", test.longest, a, b, test.least, test.most)
		}
	}
}

func TestMayEject(t *testing.T) {
	for _, test := range []struct {
		name    string
		n       census
		able    bool
		percent float64
		want    bool
	}{
		{"the only one", census{all: 1, able: 1, left: 1}, true, 100, false},
		{"one of two", census{all: 2, able: 2, left: 2}, true, 50, true},
		{"one at least, whatever the percentage", census{all: 20, able: 20, left: 20}, true, 0, true},
		{"the second of three at 50 %", census{all: 3, ejected: 1, able: 3, left: 2}, true, 50, false},
		{"the second of four at 50 %", census{all: 4, ejected: 1, able: 4, left: 3}, true, 50, true},
		{"the third of four at 50 %", census{all: 4, ejected: 2, able: 4, left: 2}, true, 50, false},
		{"the third of ten at 30 % is no rounding error", census{all: 10, ejected: 2, able: 10, left: 8}, true, 30, true},
		{"the last at 100 %", census{all: 3, ejected: 2, able: 3, left: 1}, true, 100, false},
		{"the other ones drain or are unhealthy", census{all: 3, able: 1, left: 1}, true, 100, false},
		{"one that drains itself", census{all: 3, able: 1, left: 1}, false, 100, true},
		{"nobody is left as it is", census{all: 3, able: 0, left: 0}, false, 100, false},
	} {
		c := config.Outlier{MaxEjectedPercent: test.percent}
		if got := test.n.mayEject(test.able, &c); got != test.want {
			t.Errorf("%s: %v, want %v", test.name, got, test.want)
		}
	}
}

func TestPanics(t *testing.T) {
	for _, test := range []struct {
		name      string
		n         census
		threshold float64
		want      bool
	}{
		{"nobody ejected", census{all: 4, able: 4, left: 4}, 100, false},
		{"nobody able", census{all: 4, ejected: 2}, 100, false},
		{"off, one left", census{all: 4, ejected: 3, able: 4, left: 1}, 0, false},
		{"off, none left", census{all: 4, ejected: 1, able: 1, left: 0}, 0, true},
		{"at the threshold", census{all: 4, ejected: 2, able: 4, left: 2}, 50, false},
		{"below", census{all: 4, ejected: 2, able: 3, left: 1}, 50, true},
		{"the ejected ones could not be used", census{all: 4, ejected: 2, able: 2, left: 2}, 100, false},
	} {
		if got := test.n.panics(test.threshold); got != test.want {
			t.Errorf("%s: %v, want %v", test.name, got, test.want)
		}
	}
}
