//go:build linux

package proxy_test

import (
	"strings"
	"sync/atomic"
	"testing"

	"weir/config"
	"weir/proxy"
	"weir/proxy/enginetest"
)

// TestLoopBlockedIsReported: a coroutine that blocks its loop is counted, and named with its stack; the
// other loops go on meanwhile, and the blocked one afterwards.
func TestLoopBlockedIsReported(t *testing.T) {
	if enginetest.Name() == config.EngineGoroutine {
		return // has no loops
	}
	release, blocked := make(chan bool), make(chan bool)
	var armed atomic.Bool
	ep := newEndpoint(t, serveOK)
	r := start(t, setup{endpoints: []string{ep.addr}, blocks: true, options: func(o *proxy.Options) {
		o.Loops = 2
		proxy.SetHook(o, func() {
			if armed.CompareAndSwap(true, false) {
				blockOnPurpose(blocked, release)
			}
		})
	}})
	stuck, free := r.dial(t), r.dial(t) // on a loop each: that with fewer clients takes the next one
	stuck.get("/before")
	free.get("/before")
	armed.Store(true)
	stuck.send("GET /stuck HTTP/1.1\r\nHost: h\r\n\r\n")
	<-blocked
	if m := free.get("/meanwhile"); m.status() != 200 {
		t.Errorf("on the other loop: %q", m.start)
	}
	eventually(t, "the report", func() bool { return strings.Contains(r.logs.String(), "blockOnPurpose") })
	if n := sum(r.metrics(t), "weir_loops_blocked_total"); n != 1 {
		t.Errorf("counted %v blocked loops, want 1", n)
	}
	close(release)
	if m := stuck.answer("GET"); m.status() != 200 {
		t.Errorf("the request that was stuck: %q", m.start)
	}
	if m := stuck.get("/after"); m.status() != 200 {
		t.Errorf("afterwards: %q", m.start)
	}
}

func blockOnPurpose(blocked, release chan bool) {
	blocked <- true
	<-release
}
