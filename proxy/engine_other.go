//go:build !linux

package proxy

import "time"

// haveLoops: see Linux's.
const haveLoops = false

// engines: the event loops need Linux's epoll, so here goroutines serve all connections.
type engines struct{}

func newEngines(*Proxy, int) *engines     { return &engines{} }
func (g *engines) lanes() int             { return 1 }
func (g *engines) sweep()                 {}
func (g *engines) prune(f func(lane int)) { f(goroutineLane) }
func (g *engines) stop()                  {}

// tell: the watch asks.
func (g *engines) tell(d descriptor, ended func(hard bool)) bool {
	t, ok := d.(teller)
	if ok {
		t.tell(ended)
	}
	return ok
}

// departures need Linux's epoll, too.
type departures struct{}

func (*departures) remove(*netConn) {}

func (g *engines) blockedCount() uint64 { return 0 }
func (l *listener) take() error         { return l.takeForGoroutine() }

type rawListener struct{}

func openRaw(listening) (rawListener, error) { return rawListener{}, nil }
func (rawListener) setDeadline(time.Time)    {}
func (rawListener) close()                   {}
