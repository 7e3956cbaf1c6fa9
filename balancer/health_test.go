package balancer

import (
	"errors"
	"testing"

	"weir/config"
)

func TestRiseAndFall(t *testing.T) {
	probe := &config.Probe{Path: "/health", Rise: 2, Fall: 3}
	for _, test := range []struct {
		name    string
		results string // + for a success, - for a failure
		want    string // after each: up or down
	}{
		{"the first failure decides alone", "-", "d"},
		{"the first success decides alone", "+", "u"},
		{"rise after the first failure", "-++", "ddu"},
		{"a failure starts the rise again", "-+-++", "ddddu"},
		{"fall after the first success", "+---", "uuud"},
		{"a success starts the fall again", "+--+---", "uuuuuud"},
		{"flapping changes nothing when up", "+-+-+-+-+-", "uuuuuuuuuu"},
		{"flapping changes nothing when down", "-+-+-+-+-+", "dddddddddd"},
		{"down and up again", "+---++---", "uuuddu" + "uud"},
	} {
		t.Run(test.name, func(t *testing.T) {
			var h health
			h.expect(probe)
			was := h.down
			for i, c := range test.results {
				var err error
				if c == '-' {
					err = errors.New("answered 503")
				}
				changed := h.observe(err, probe)
				if got := h.down; got != (test.want[i] == 'd') {
					t.Fatalf("after %q: down = %v, want %c", test.results[:i+1], got, test.want[i])
				}
				if changed != (h.down != was) {
					t.Fatalf("after %q: changed = %v, down went from %v to %v", test.results[:i+1], changed, was, h.down)
				}
				was = h.down
			}
		})
	}
}

func TestFailureTextStaysUntilTheEndpointIsWell(t *testing.T) {
	probe := &config.Probe{Path: "/health", Rise: 2, Fall: 2}
	var h health
	h.expect(probe)
	for i, step := range []struct {
		err  error
		want string
	}{
		{errors.New("answered 404"), "answered 404"},
		{nil, "answered 404"}, // still down: the reason is still of interest
		{nil, ""},
		{errors.New("connection refused"), "connection refused"}, // still up: a warning
		{nil, ""},
	} {
		h.observe(step.err, probe)
		if h.failure != step.want {
			t.Errorf("step %d: failure %q, want %q", i, h.failure, step.want)
		}
	}
}

func TestExpectKeepsTheVerdictOfTheSameQuestion(t *testing.T) {
	probe := config.Probe{Path: "/health", Rise: 2, Fall: 3, Status: config.StatusRange{Low: 200, High: 299}}
	failed := errors.New("answered 500")
	down := func() health {
		var h health
		h.expect(&probe)
		h.observe(failed, &probe)
		return h
	}

	h, slower := down(), probe
	slower.Interval *= 2
	h.expect(&slower)
	if h.observe(nil, &slower); !h.down {
		t.Error("another interval: one success made the endpoint healthy, want rise to hold")
	}

	h, other := down(), probe
	other.Path = "/ready"
	h.expect(&other)
	if !h.down {
		t.Error("another path: the endpoint was healthy before anybody asked")
	}
	if h.observe(nil, &other); h.down {
		t.Error("another path: its first result did not decide alone")
	}

	for name, change := range map[string]func(p *config.Probe){
		"another field":        func(p *config.Probe) { p.JSON = []config.Assertion{{Path: "ready", Value: "true"}} },
		"a model":              func(p *config.Probe) { p.Path, p.Model = "", "fashion" },
		"a version of a model": func(p *config.Probe) { p.Path, p.Model, p.ModelVersion = "", "fashion", "3" },
	} {
		h, other := down(), probe
		change(&other)
		h.expect(&other)
		if h.observe(nil, &other); h.down {
			t.Errorf("%s: its first result did not decide alone", name)
		}
	}

	h = down()
	h.expect(nil)
	if h.down || h.failure != "" {
		t.Error("probe: off: the endpoint is still unhealthy")
	}
	h.expect(&probe)
	if h.down {
		t.Error("a probe again: the endpoint is unhealthy before the first one")
	}
}
