package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"weir/config"
	"weir/internal/state"
	"weir/proxy/enginetest"
)

// fleet is a configuration of pools with their endpoints, in YAML, and routes with their splits.
type fleet struct {
	pools, routes [][2]string
	listener      string
}

func (f fleet) parse(t testing.TB) *config.Config {
	t.Helper()
	var b strings.Builder
	fmt.Fprintf(&b, "engine: %s\nlisteners: [{address: '127.0.0.1:0'%s}]\npools:\n", enginetest.Name(), f.listener)
	for _, p := range f.pools {
		fmt.Fprintf(&b, "  %s: {probe: off, policy: round_robin, endpoints: [%s]}\n", p[0], p[1])
	}
	b.WriteString("routes:\n")
	for _, r := range f.routes {
		fmt.Fprintf(&b, "  - {name: %s, match: {path: /%s}, split: {%s}}\n", r[0], r[0], r[1])
	}
	cfg, err := config.Parse("", []byte(b.String()))
	if err != nil {
		t.Fatalf("%v\n%s", err, &b)
	}
	return cfg
}

// addresses are endpoints that nobody asks.
func addresses(ports ...int) string {
	var s []string
	for _, p := range ports {
		s = append(s, fmt.Sprintf("'127.0.0.1:%d'", p))
	}
	return strings.Join(s, ", ")
}

// three routes over three pools of two endpoints.
var threeRoutes = fleet{
	pools:  [][2]string{{"a", addresses(1, 2)}, {"b", addresses(3, 4)}, {"c", addresses(5, 6)}},
	routes: [][2]string{{"one", "a: 90, b: 10"}, {"two", "a: 1, b: 1"}, {"three", "b: 1, c: 0"}},
}

// steered is a proxy that does not serve, with the changes it committed.
type steered struct {
	*Proxy
	t       *testing.T
	commits []state.Change
	docs    []*state.Document
}

func steer(t *testing.T, f fleet, remembered *state.Document) *steered {
	t.Helper()
	s := &steered{t: t}
	s.Proxy = New(Options{Remembered: remembered, Commit: func(c state.Change, d *state.Document) func() {
		s.commits, s.docs = append(s.commits, c), append(s.docs, d)
		return func() {}
	}})
	if _, _, err := s.Apply(f.parse(t)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stopPools(s.Proxy) })
	return s
}

// update is refused with a code, or "" where it is to succeed.
func (s *steered) update(u Update, code string) {
	s.t.Helper()
	before := s.table.Load()
	_, err := s.Update(u)
	var refused *ControlError
	switch {
	case code == "" && err != nil:
		s.t.Errorf("%+v: %v", u, err)
	case code != "" && (!errors.As(err, &refused) || refused.Code != code):
		s.t.Errorf("%+v: %v, want %s", u, err, code)
	case (code != "" || u.DryRun) && s.table.Load() != before:
		s.t.Errorf("%+v has changed something", u)
	}
}

type set = map[string]map[string]float64

// generations are those of routes and pools, in the order of the file.
func (s *steered) generations() (g []uint64) {
	st := s.Status()
	for _, r := range st.Routes {
		g = append(g, r.Generation)
	}
	for _, p := range st.Pools {
		g = append(g, p.Generation)
	}
	return g
}

func drains(pool, endpoint string, on bool) state.DrainChange {
	return state.DrainChange{Pool: pool, Endpoint: endpoint, Draining: on}
}

func TestAnUpdateIsOneGeneration(t *testing.T) {
	s := steer(t, threeRoutes, nil)
	before := s.table.Load()
	s.update(Update{Kind: state.KindRollback, Weights: set{"one": {"a": 1, "b": 0}, "two": {"a": 0, "b": 2}, "three": {"b": 1, "c": 0}},
		Drains: []state.DrainChange{drains("c", "127.0.0.1:5", true), drains("b", "", false), drains("a", "127.0.0.1:1", false)}}, "")
	if got, want := s.generations(), []uint64{2, 2, 1, 1, 1, 2}; !slices.Equal(got, want) {
		t.Errorf("generations %v, want %v", got, want)
	}
	if n := len(s.commits); n != 2 || len(s.commits[1].Routes) != 2 || len(s.commits[1].Drains) != 1 {
		t.Errorf("%d commits: %+v", n, s.commits)
	}
	after := s.table.Load()
	if after.routes[2] != before.routes[2] || after.pools[1] != before.pools[1] {
		t.Error("what the update leaves alone was built anew")
	}
	s.update(Update{Weights: set{"one": {"a": 1, "b": 0}}, Drains: []state.DrainChange{drains("c", "127.0.0.1:5", true)}}, "")
	if s.table.Load() != after || len(s.commits) != 2 {
		t.Error("an update to what is made a generation")
	}
}

func TestARefusedUpdateChangesNothing(t *testing.T) {
	s := steer(t, threeRoutes, nil)
	ok := map[string]float64{"a": 5, "b": 5}
	for code, us := range map[string][]Update{
		"invalid_weights": {
			{Weights: set{"one": ok, "two": {"a": 1}}},
			{Weights: set{"one": ok, "two": {"a": 1, "b": 2 * config.MaxWeight}}}, // the state would not take it
			{Weights: set{"one": ok, "two": {"a": 0, "b": 0}}, Force: true},
		},
		"unknown_route":       {{Weights: set{"one": ok, "four": ok}}},
		"unknown_pool":        {{Weights: set{"one": ok}, Drains: []state.DrainChange{drains("d", "", true)}}},
		"unknown_endpoint":    {{Weights: set{"one": ok}, Drains: []state.DrainChange{drains("a", "127.0.0.1:3", true)}}},
		"no_healthy_endpoint": {{Weights: set{"one": ok}, Drains: []state.DrainChange{drains("a", "", true), drains("b", "", true)}}},
	} {
		for _, u := range us {
			s.update(u, code)
		}
	}
	s.update(Update{Weights: set{"one": {"a": 5, "b": config.MaxWeight}}, Drains: []state.DrainChange{drains("c", "", true)}, DryRun: true}, "")
	s.update(Update{Weights: set{"one": ok}, Check: func() error { return &ControlError{Code: "checked"} }}, "checked")
	if len(s.commits) != 1 || s.Status().Pools[0].Draining {
		t.Errorf("committed: %+v", s.commits)
	}
}

// TestAnUpdateIsJudgedByTheStateAfterIt: what a rollback does step by step no step might do alone.
func TestAnUpdateIsJudgedByTheStateAfterIt(t *testing.T) {
	s := steer(t, threeRoutes, nil)
	toA := set{"one": {"a": 1, "b": 0}, "two": {"a": 1, "b": 0}}
	s.update(Update{Weights: set{"one": {"a": 0, "b": 1}, "two": {"a": 0, "b": 1}}, Drains: []state.DrainChange{drains("a", "", true)}}, "")
	s.update(Update{Weights: toA}, "no_healthy_endpoint")
	s.update(Update{Weights: toA, Drains: []state.DrainChange{drains("a", "", false), drains("b", "", true)}}, "no_healthy_endpoint") // of three
	s.update(Update{Weights: toA, Drains: []state.DrainChange{drains("a", "", false), drains("a", "127.0.0.1:1", true)}}, "")
	s.update(Update{Drains: []state.DrainChange{drains("a", "127.0.0.1:2", true)}}, "no_healthy_endpoint") // the last one
	s.update(Update{Drains: []state.DrainChange{drains("a", "127.0.0.1:2", true)}, Force: true}, "")
	s.update(Update{Weights: set{"three": {"b": 1, "c": 1}}}, "") // another route's trouble is none of it
}

// TestTheSameSharesInOtherNumbersAreNoMore: a variant in trouble does not get more by rounding.
func TestTheSameSharesInOtherNumbersAreNoMore(t *testing.T) {
	s := steer(t, threeRoutes, nil)
	s.update(Update{Drains: []state.DrainChange{drains("b", "", true)}, Force: true}, "")
	for i := 1.0; i < 200; i++ {
		s.update(Update{Weights: set{"one": {"a": 90 * i / 7, "b": 10 * i / 7}}}, "")
		s.update(Update{Weights: set{"one": {"a": 90 / i, "b": 10 / i}}}, "")
	}
}

// busy makes a route's first variant look as if it had n requests a second for the last ten.
func (s *steered) busy(route string, n int) {
	w := &s.table.Load().route(route).variants[0].live.window
	w.Tick(time.Now().Add(-10 * time.Second))
	for range 10 * n {
		w.Record(time.Millisecond)
	}
}

func TestCapacityIsThatOfTheUsableEndpointsWhereAllSay(t *testing.T) {
	f := fleet{
		pools: [][2]string{{"a", addresses(1)}, {"all", "{address: '127.0.0.1:2', capacity: 60/s}, {address: '127.0.0.1:3', capacity: 60/s}"},
			{"some", "{address: '127.0.0.1:4', capacity: 1/s}, '127.0.0.1:5'"}},
		routes: [][2]string{{"one", "a: 1, all: 0"}, {"two", "a: 1, all: 0"}, {"three", "a: 1, some: 0"}},
	}
	s := steer(t, f, nil)
	for _, r := range []string{"one", "two", "three"} {
		w := s.table.Load().route(r).variants[0].live
		*w = variantLive{}
		s.busy(r, 80)
	}
	to := func(pool string) map[string]float64 { return map[string]float64{"a": 0, pool: 1} }
	s.update(Update{Weights: set{"one": to("all")}}, "")
	s.update(Update{Weights: set{"two": to("all")}}, "over_capacity") // 160 of 120
	s.update(Update{Weights: set{"two": to("all")}, DryRun: true}, "over_capacity")
	s.update(Update{Weights: set{"two": {"a": 3, "all": 1}}}, "") // 100
	s.update(Update{Weights: set{"one": {"a": 1, "all": 1}, "two": {"a": 1, "all": 1}}}, "")
	s.update(Update{Weights: set{"one": {"a": 1, "all": 3}}, Drains: []state.DrainChange{drains("all", "127.0.0.1:2", true)}}, "over_capacity")
	s.update(Update{Weights: set{"three": to("some")}}, "") // one endpoint says nothing
	s.update(Update{Weights: set{"three": {"a": 1, "some": 0}}}, "")
	s.update(Update{Drains: []state.DrainChange{drains("some", "127.0.0.1:5", true)}}, "")
	s.update(Update{Weights: set{"three": to("some")}}, "over_capacity") // of those left, all say
	s.update(Update{Weights: set{"three": to("some")}, Force: true}, "")
}

func TestADrainLeavesWhatBearsTheLoad(t *testing.T) {
	f := fleet{
		pools: [][2]string{
			{"two", "{address: '127.0.0.1:1', capacity: 60/s}, {address: '127.0.0.1:2', capacity: 60/s}"},
			{"spare", "{address: '127.0.0.1:3', capacity: 100/s}, {address: '127.0.0.1:4', capacity: 100/s}"},
			{"idle", "{address: '127.0.0.1:5', capacity: 1/s}, {address: '127.0.0.1:6', capacity: 1/s}"},
			{"silent", addresses(7, 8)},
		},
		routes: [][2]string{{"one", "two: 1, idle: 0"}, {"other", "spare: 1"}, {"third", "silent: 1"}},
	}
	s := steer(t, f, nil)
	for _, r := range []string{"one", "other", "third"} {
		*s.table.Load().route(r).variants[0].live = variantLive{}
		s.busy(r, 80)
	}
	drain := func(pool, endpoint string, on bool) Update {
		return Update{Drains: []state.DrainChange{drains(pool, endpoint, on)}}
	}
	forced := func(u Update) Update { u.Force = true; return u }
	first := drain("two", "127.0.0.1:1", true)
	s.update(first, "over_capacity") // 80 of 60
	s.update(drain("spare", "127.0.0.1:3", true), "")
	s.update(drain("idle", "127.0.0.1:5", true), "")
	s.update(drain("silent", "127.0.0.1:7", true), "")
	s.update(Update{Weights: set{"one": {"two": 7, "idle": 3}}, Drains: first.Drains}, "over_capacity") // of idle's
	s.update(Update{Weights: set{"one": {"two": 99, "idle": 1}}, Drains: first.Drains}, "over_capacity")
	s.update(forced(first), "")

	// It has too much by now, which is no reason to keep it from less, nor to refuse what does not press it.
	s.update(drain("spare", "127.0.0.1:3", false), "")
	s.update(Update{Drains: []state.DrainChange{drains("two", "127.0.0.1:1", true), drains("idle", "127.0.0.1:5", false)}}, "")
	s.update(drain("two", "127.0.0.1:1", false), "")
	s.update(forced(drain("two", "", true)), "")
	s.update(first, "") // drains with its pool already
	s.update(drain("two", "", false), "")
	s.update(drain("two", "127.0.0.1:1", false), "")
}

// TestARateIsNotGuessedFromAnInstant: what came before the first second ended is not divided by less.
func TestARateIsNotGuessedFromAnInstant(t *testing.T) {
	s := steer(t, threeRoutes, nil)
	r := s.table.Load().route("one")
	began := time.Now()
	for range 100 {
		r.variants[0].live.window.Record(time.Millisecond)
	}
	r.variants[0].live.window.Tick(began.Add(time.Second))
	if rate := r.rate(began.Add(1100 * time.Millisecond)); rate < 50 || rate > 110 {
		t.Errorf("100 requests in the first second are %v a second", rate)
	}
}

func TestADrainEndsIdleConnectionsAndNoRequests(t *testing.T) {
	e, other := startEndpoint(t, "e"), startEndpoint(t, "other")
	close(other.release) // it is never slow
	p := running(t, fleet{
		pools:  [][2]string{{"a", "'" + e.address + "', '" + other.address + "'"}, {"b", "'" + other.address + "'"}},
		routes: [][2]string{{"one", "a: 1, b: 0"}},
	}.parse(t))
	url := "http://" + p.Addrs()[0].String() + "/one"
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 16}}
	defer client.CloseIdleConnections()
	get := func(url string) error {
		resp, err := client.Get(url)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if b, err := io.ReadAll(resp.Body); err != nil || resp.StatusCode != 200 {
			return fmt.Errorf("%d %s, %v", resp.StatusCode, b, err)
		}
		return nil
	}
	burst := func() {
		var all sync.WaitGroup
		for range 8 {
			all.Go(func() {
				for range 10 {
					if err := get(url); err != nil {
						t.Error(err)
					}
				}
			})
		}
		all.Wait()
	}
	until := func(what string, f func() bool) {
		t.Helper()
		for end := time.Now().Add(5 * time.Second); !f(); time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("not within 5 s: %s; %d connections", what, e.open.Load())
			}
		}
	}
	for _, d := range []state.DrainChange{drains("a", e.address, true), drains("a", "", true)} {
		burst()
		if e.open.Load() == 0 {
			t.Fatal("no connection is kept")
		}
		slow := make(chan error, 8)
		met := e.met.Load()
		for range 8 {
			go func() { slow <- get(url + "?slow") }()
		}
		until("slow requests are under way", func() bool { return e.met.Load() > met+2 })
		if _, err := p.Update(Update{Drains: []state.DrainChange{d}, Weights: set{"one": {"a": 1, "b": 1}}}); err != nil {
			t.Fatal(err)
		}
		until("idle connections end", func() bool { return e.open.Load() <= e.met.Load()-met })
		under := e.met.Load() - met
		burst()
		if now := e.met.Load() - met; now != under {
			t.Errorf("%v: %d requests came while it drained", d, now-under)
		}
		close(e.release)
		for range 8 {
			if err := <-slow; err != nil {
				t.Errorf("%v: a request under way: %v", d, err)
			}
		}
		e.release = make(chan struct{})
		until("those that finished are not kept", func() bool { return e.open.Load() == 0 })
		d.Draining = false
		if _, err := p.Update(Update{Drains: []state.DrainChange{d}, Weights: set{"one": {"a": 1, "b": 0}}}); err != nil {
			t.Fatal(err)
		}
		met = e.met.Load()
		burst()
		if e.met.Load() == met || e.open.Load() == 0 {
			t.Errorf("%v: after it, %d requests and %d connections", d, e.met.Load()-met, e.open.Load())
		}
	}
}

// TestNoNewRequestMeetsTheOldWeights: what a client begins to send after Update returned is never answered
// by the variant before, on whatever connection, new or kept.
func TestNoNewRequestMeetsTheOldWeights(t *testing.T) {
	names := []string{"a", "b"}
	p := running(t, fleet{
		pools:  [][2]string{{"a", "'" + startEndpoint(t, "a").address + "'"}, {"b", "'" + startEndpoint(t, "b").address + "'"}},
		routes: [][2]string{{"one", "a: 1, b: 0"}},
	}.parse(t))
	address := p.Addrs()[0].String()
	// Switches are numbered: the even ones lead to a, the odd ones to b. begun is the last that was asked for,
	// done the last that was answered.
	var begun, done, met atomic.Int64
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var clients sync.WaitGroup
	for range 32 {
		clients.Go(func() {
			for ctx.Err() == nil {
				if err := keptAlive(ctx, address, 50, 0, func() func(string) error {
					from := done.Load()
					return func(variant string) error {
						met.Add(1)
						for n := from; n <= begun.Load(); n++ {
							if variant == names[n%2] {
								return nil
							}
						}
						return fmt.Errorf("after switch %d to %s, and before the next, a request met %s", from, names[from%2], variant)
					}
				}); err != nil && ctx.Err() == nil {
					t.Error(err)
					return
				}
			}
		})
	}
	for end := time.Now().Add(2 * time.Second); time.Now().Before(end); {
		n := begun.Add(1)
		weights := map[string]float64{"a": float64((n + 1) % 2), "b": float64(n % 2)}
		if _, err := p.Update(Update{Kind: state.KindSwitch, Weights: set{"one": weights}}); err != nil {
			t.Fatal(err)
		}
		done.Store(n)
		time.Sleep(time.Duration(n%5) * time.Millisecond)
	}
	cancel()
	clients.Wait()
	if n := met.Load(); n < 200 || done.Load() < 20 {
		t.Errorf("only %d requests and %d switches", n, done.Load())
	}
}

func TestLongListsOfChangesAreShortened(t *testing.T) {
	var changes []string
	for i := range shownChanges {
		changes = append(changes, fmt.Sprint("pool ", i, " changed"))
	}
	if got := shortened(changes); len(got) != shownChanges {
		t.Errorf("%d changes of %d shown", len(got), shownChanges)
	}
	changes = append(changes, "one", "two")
	got := shortened(changes)
	if len(got) != shownChanges+1 || got[shownChanges] != "and 2 more" || changes[shownChanges] != "one" {
		t.Errorf("shown: %d, the last %q", len(got), got[len(got)-1])
	}
}
