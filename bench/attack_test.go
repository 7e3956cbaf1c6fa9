package bench

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func fixed(t *testing.T, url string, users int) *Fixed {
	t.Helper()
	target, err := NewFixed(Request{URL: url, Users: users, Seed: 1}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return target
}

func attack(t *testing.T, o Options) *Attack {
	t.Helper()
	if o.Address == "" {
		o.Address = o.Target.(*Fixed).Address()
	}
	a, err := NewAttack(o)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestAttackSendsTheWholeScheduleOnTime(t *testing.T) {
	var served atomic.Uint64
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		variant := "blue"
		if n := served.Add(1); n%10 == 0 {
			variant = "green"
		}
		w.Header().Set("X-Weir-Variant", variant)
	}))
	defer s.Close()
	a := attack(t, Options{Target: fixed(t, s.URL, 10), Pacer: Constant(1000), Duration: 300 * time.Millisecond, Connections: 8})
	began := time.Now()
	if err := a.Run(context.Background()); err != nil {
		t.Fatal(err)
	}
	took := time.Since(began)
	tally := a.Take()
	total := tally.Total()
	if tally.Scheduled != 300 || tally.Dropped != 0 || total.Requests != 300 || total.OK != 300 || served.Load() != 300 {
		t.Errorf("scheduled %d, dropped %d, sent %d, ok %d, served %d; want 300, 0, 300, 300, 300",
			tally.Scheduled, tally.Dropped, total.Requests, total.OK, served.Load())
	}
	if blue, green := tally.Variants["blue"].Requests, tally.Variants["green"].Requests; blue != 270 || green != 30 {
		t.Errorf("blue %d, green %d; want 270 and 30", blue, green)
	}
	if took < 298*time.Millisecond { // an alarm may ring a little early
		t.Errorf("the last request was due at 299ms, but the attack took %v", took)
	}
	if len(tally.Sightings) != 300 {
		t.Errorf("%d sightings of users, want 300", len(tally.Sightings))
	}
	if again := a.Take(); again.Scheduled != 0 || again.Total().Requests != 0 || len(again.Sightings) != 0 {
		t.Errorf("a second Take returned the same results again: %+v", again)
	}
}

// stalled is a server that accepts, reads and never answers until release is called.
func stalled(t *testing.T) (url string, release func()) {
	t.Helper()
	held := make(chan struct{})
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-held:
		case <-r.Context().Done():
		}
	}))
	release = sync.OnceFunc(func() { close(held) })
	t.Cleanup(func() { release(); s.Close() })
	return s.URL, release
}

// The open loop's promise: a stalled target does not slow the schedule down. Every arrival is
// accounted for, as timed out on a connection or as dropped for want of one.
func TestAttackOnAStalledServerCountsEveryArrival(t *testing.T) {
	url, _ := stalled(t)
	a := attack(t, Options{
		Target: fixed(t, url, 0), Pacer: Constant(1000), Duration: 200 * time.Millisecond,
		Connections: 4, Timeout: 100 * time.Millisecond,
	})
	if err := a.Run(context.Background()); err != nil {
		t.Fatal(err)
	}
	tally := a.Take()
	total := tally.Total()
	if tally.Scheduled != 200 || total.Requests+tally.Dropped != 200 {
		t.Errorf("scheduled %d, sent %d, dropped %d; want 200 = sent + dropped", tally.Scheduled, total.Requests, tally.Dropped)
	}
	if total.Failures[Timeout] != total.Requests || total.OK != 0 {
		t.Errorf("%d of %d sent timed out, %d were answered; want all, 0", total.Failures[Timeout], total.Requests, total.OK)
	}
	// 4 connections, each busy for 100 ms at a time, until the last arrival has waited 100 ms.
	if tally.Dropped < 180 {
		t.Errorf("%d dropped, want at least 180: 4 connections cannot carry more", tally.Dropped)
	}
	if q := Summarize(tally, 200*time.Millisecond).Total.Latency; q == nil || q.P50 < 99 {
		t.Errorf("latency %+v, want a p50 of at least the timeout, 100 ms", q)
	}
}

// A request that waited for a connection counts its wait: latency from due, service from sent.
func TestAttackCountsLateRequestsFromWhenTheyWereDue(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		<-time.After(20 * time.Millisecond)
	}))
	defer s.Close()
	a := attack(t, Options{Target: fixed(t, s.URL, 0), Pacer: Constant(1000), Duration: 20 * time.Millisecond, Connections: 1})
	if err := a.Run(context.Background()); err != nil {
		t.Fatal(err)
	}
	total := a.Take().Total()
	if total.OK != 20 || total.Late < 18 {
		t.Errorf("ok %d, late %d; want 20, and nearly all of them late", total.OK, total.Late)
	}
	latency, service := time.Duration(total.Latency.Max()), time.Duration(total.Service.Max())
	if latency < 350*time.Millisecond {
		t.Errorf("the last of 20 requests on one connection has latency %v; it was due at 19ms and answered after 400ms", latency)
	}
	if service > latency/2 {
		t.Errorf("service time up to %v, want about 20ms, well below the latency of %v", service, latency)
	}
}

func TestAttackClosedLoop(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer s.Close()
	a := attack(t, Options{Target: fixed(t, s.URL, 0), Duration: 50 * time.Millisecond, Connections: 2})
	if err := a.Run(context.Background()); err != nil {
		t.Fatal(err)
	}
	tally := a.Take()
	if total := tally.Total(); total.OK < 2 || total.OK != total.Requests || total.Late != 0 || tally.Connections != 2 {
		t.Errorf("ok %d of %d, late %d, %d connections; want some, all ok, none late, 2 connections",
			total.OK, total.Requests, total.Late, tally.Connections)
	}
}

func TestAttackInterruptedGivesAPartialResult(t *testing.T) {
	url, release := stalled(t)
	ctx, cancel := context.WithCancel(context.Background())
	a := attack(t, Options{Target: fixed(t, url, 0), Pacer: Constant(100), Connections: 2})
	finished := make(chan error, 1)
	go func() { finished <- a.Run(ctx) }()
	waitFor(t, "both connections to be busy", func() bool { return a.arrived() == 2 })
	waitFor(t, "more to be due", func() bool { return time.Since(a.Start()) > 80*time.Millisecond })
	cancel()
	release()
	select {
	case err := <-finished:
		if err != nil {
			t.Fatal(err)
		}
	case <-time.After(Grace + 5*time.Second):
		t.Fatal("an interrupted attack does not end")
	}
	tally := a.Take()
	total := tally.Total()
	if total.OK != 2 || tally.Dropped < 3 || total.Requests+tally.Dropped != tally.Scheduled {
		t.Errorf("ok %d, sent %d, dropped %d, scheduled %d; want 2 answered in the grace, some dropped, none lost",
			total.OK, total.Requests, tally.Dropped, tally.Scheduled)
	}
}

func TestAttackInterruptedDoesNotWaitForAStalledServer(t *testing.T) {
	url, _ := stalled(t)
	ctx, cancel := context.WithCancel(context.Background())
	a := attack(t, Options{Target: fixed(t, url, 0), Connections: 3})
	finished := make(chan error, 1)
	go func() { finished <- a.Run(ctx) }()
	waitFor(t, "all connections to be busy", func() bool { return a.arrived() == 3 })
	cancel()
	if err := <-finished; err != nil {
		t.Fatal(err)
	}
	total := a.Take().Total()
	if total.Failures[Unfinished] != 3 || total.Requests != 0 {
		t.Errorf("unfinished %d, counted %d; want 3 unfinished, none counted", total.Failures[Unfinished], total.Requests)
	}
}

func TestAttackOnNothing(t *testing.T) {
	ln := listen(t)
	address := ln.Addr().String()
	ln.Close()
	a := attack(t, Options{Target: fixed(t, "http://"+address, 0), Pacer: Constant(100), Duration: time.Second})
	if err := a.Run(context.Background()); err == nil || !strings.Contains(err.Error(), address) {
		t.Errorf("error %v, want one that names %s", err, address)
	}
}

// A server that goes away while the attack runs: connect failures are counted and the worker
// goes on; a server that closes each connection costs reconnections and no error.
func TestAttackReconnects(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Connection", "close")
	}))
	defer s.Close()
	a := attack(t, Options{Target: fixed(t, s.URL, 0), Pacer: Constant(1000), Duration: 50 * time.Millisecond, Connections: 2})
	if err := a.Run(context.Background()); err != nil {
		t.Fatal(err)
	}
	tally := a.Take()
	if total := tally.Total(); total.OK != 50 || tally.Connections < 50 {
		t.Errorf("ok %d on %d connections, want 50 on at least as many", total.OK, tally.Connections)
	}
}

func TestAttackCountsResetsAndRefusedConnections(t *testing.T) {
	ln := listen(t)
	go func() {
		for range 2 { // the first connections of both workers; then nobody listens
			c, err := ln.Accept()
			if err != nil {
				return
			}
			defer c.Close()
		}
		ln.Close()
	}()
	address := ln.Addr().(*net.TCPAddr).String()
	a := attack(t, Options{Target: fixed(t, "http://"+address, 0), Pacer: Constant(1000), Duration: 50 * time.Millisecond, Connections: 2})
	if err := a.Run(context.Background()); err != nil {
		t.Fatal(err)
	}
	total := a.Take().Total()
	if total.Failures[Reset] == 0 || total.Failures[Connect] == 0 || total.Failures[Reset]+total.Failures[Connect] != 50 {
		t.Errorf("resets %d, connect failures %d; want some of each and 50 in all", total.Failures[Reset], total.Failures[Connect])
	}
}

func TestNewAttackRefuses(t *testing.T) {
	for _, o := range []Options{{Connections: -1}, {Connections: MaxConnections + 1}, {Timeout: -1}, {Timeout: time.Hour}, {Duration: -1}, {SLO: -1}} {
		if _, err := NewAttack(o); err == nil {
			t.Errorf("NewAttack(%+v) is accepted", o)
		}
	}
}

func waitFor(t *testing.T, what string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !condition(); {
		if time.Now().After(deadline) {
			t.Fatalf("waited 10 s for %s", what)
		}
		<-time.After(time.Millisecond)
	}
}

// arrived is how many arrivals were taken from the schedule.
func (a *Attack) arrived() uint64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.arrivals
}
