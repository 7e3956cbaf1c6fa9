package balancer

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"weir/config"
)

// healthLog notes what PoolOptions.Health is told.
type healthLog struct {
	mu    sync.Mutex
	lines []string
}

func (l *healthLog) health(e *Endpoint, healthy bool, why string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	_ = e.ProbeError() // it may ask whatever it likes
	l.lines = append(l.lines, fmt.Sprintf("%s %v usable=%v: %s", e.Address, healthy, e.Usable(), why))
}

func (l *healthLog) take() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	lines := l.lines
	l.lines = nil
	return lines
}

func (l *healthLog) want(t *testing.T, when string, lines ...string) {
	t.Helper()
	if got := l.take(); !slices.Equal(got, lines) {
		t.Errorf("%s: told %q, want %q", when, got, lines)
	}
}

func TestHealthIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b backend
		var told healthLog
		options := b.options()
		options.Health = told.health
		p := NewPool(probedConfig(1), nil, options)
		p.Start()
		wait(time.Minute)
		told.want(t, "a good start")
		b.set("127.0.0.1:8001", errors.New("answered 503"))
		wait(time.Minute)
		told.want(t, "it fails", "127.0.0.1:8001 false usable=false: answered 503")
		b.set("127.0.0.1:8001", nil)
		wait(time.Minute)
		told.want(t, "it is well", "127.0.0.1:8001 true usable=true: its probes succeed")
		p.Drain(true)
		wait(time.Minute)
		told.want(t, "a drain")
		p.Drain(false)
		b.set("127.0.0.1:8001", errors.New("answered 500"))
		wait(time.Minute)
		told.want(t, "it fails again", "127.0.0.1:8001 false usable=false: answered 500")
		c := probedConfig(1)
		c.Probe = nil
		next := NewPool(c, p, options)
		next.Start()
		p.Stop()
		synctest.Wait()
		told.want(t, "probe: off", "127.0.0.1:8001 true usable=true: it is not probed any more")
		next.Stop()
	})
}

func TestTheFirstAddressIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var n names
		var told healthLog
		n.answer(errors.New("no such host"))
		c := poolConfig("blue", "round_robin")
		c.Endpoints = []config.Endpoint{{Address: "models.example.com:8001", Weight: 1}}
		p := NewPool(c, nil, PoolOptions{Resolve: n.lookup, Health: told.health})
		p.Start()
		defer p.Stop()
		wait(time.Minute)
		told.want(t, "no address")
		n.answer(nil, "10.0.0.1")
		wait(time.Minute)
		told.want(t, "an address", "models.example.com:8001 true usable=true: it resolves to [10.0.0.1:8001]")
		n.answer(nil, "10.0.0.2")
		wait(time.Minute)
		told.want(t, "another address")
	})
}

func TestAHealthThatPassedIsNotTold(t *testing.T) {
	var told healthLog
	p := NewPool(poolConfig("blue", "round_robin", 1), nil, PoolOptions{Health: told.health})
	p.Start()
	defer p.Stop()
	e := p.endpoints[0]
	p.tell(e, false, "a failure that another success has come upon")
	p.tell(e, true, "the success")
	told.want(t, "down and up before anybody was told")
}
