package balancer

import (
	"testing"
	"testing/synctest"
	"time"

	"weir/config"
)

func TestDeviation(t *testing.T) {
	type of = evidence // requests, failed
	good, bad := of{requests: 100, failed: 1}, of{requests: 100, failed: 38}
	for _, test := range []struct {
		name string
		all  []evidence // the first one is judged
		want string
	}{
		{"alone", []evidence{bad}, ""},
		{"one of two", []evidence{bad, good}, "success rate 0.62 of 100 requests, mean of the others 0.99"},
		{"the good one of two", []evidence{good, bad}, ""},
		{"one of three", []evidence{bad, good, good}, "success rate 0.62 of 100 requests, mean of the others 0.99"},
		{"one of five", []evidence{bad, good, good, good, good}, "success rate 0.62 of 100 requests, mean of the others 0.99"},
		{"all are bad", []evidence{bad, bad, bad, bad, bad}, ""},
		{"too few requests to it", []evidence{{requests: 19, failed: 19}, good, good}, ""},
		{"too few requests to the other", []evidence{bad, {requests: 19}}, ""},
		{"the only other with enough is bad", []evidence{bad, bad, {requests: 19}}, ""},
		{"chance", []evidence{{requests: 20, failed: 1}, {requests: 20}}, ""},
		{"a small gap, whatever the number", []evidence{{requests: 1e6, failed: 3e4}, {requests: 1e6}, {requests: 1e6}}, ""},
		{"a gap beyond", []evidence{{requests: 1e6, failed: 5e4}, {requests: 1e6}, {requests: 1e6}}, "success rate 0.95 of 1000000 requests, mean of the others 1.00"},
		{"the others lie far apart", []evidence{{requests: 100, failed: 50}, {requests: 100, failed: 45}, good, good, {requests: 100, failed: 40}}, ""},
		{"nothing fails", []evidence{{requests: 100}, {requests: 100}}, ""},
		{"everything fails", []evidence{{requests: 100, failed: 100}, {requests: 100, failed: 100}}, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := config.Outlier{SuccessDeviation: 2, MinRequests: 20}
			var all peers
			for _, ev := range test.all {
				all.add(ev, &c)
			}
			var s standing
			if got := s.judge(test.all[0], all, &c); got != test.want {
				t.Errorf("%q, want %q", got, test.want)
			}
			c.SuccessDeviation = 0
			if got := s.judge(test.all[0], all, &c); got != "" {
				t.Errorf("%q where the rule is off", got)
			}
		})
	}
}

// What clients cut short is neither a success nor a failure: it neither ejects an endpoint nor saves one.
func TestDeviationEjectsByTheInterval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var told ejections
		p := NewPool(watched(3, func(c *config.Pool) {
			c.Outlier.ConsecutiveFailures, c.Outlier.SuccessDeviation = 0, 2
		}), nil, told.options())
		p.Start()
		defer p.Stop()
		a, b, c := p.endpoints[0], p.endpoints[1], p.endpoints[2]
		for _, e := range []*Endpoint{a, b, c} {
			end(e, 100, Success, 0)
		}
		end(a, 500, Canceled, 0)
		wait(10 * time.Second)
		told.want(t, "an interval in which only clients went away")
		end(a, 40, Success, 0)
		end(a, 10, Status, 0)
		end(a, 500, Canceled, 0)
		end(b, 50, Success, 0)
		end(c, 50, Success, 0)
		wait(10 * time.Second)
		told.want(t, "an interval", "127.0.0.1:8001 true usable=false: success rate 0.80 of 50 requests, mean of the others 1.00")
	})
}
