package control

import (
	"context"
	"fmt"
	"math"
	"slices"
	"time"

	"go.uber.org/zap"
	"weir/internal/state"
	"weir/proxy"
)

// A ramp takes at most rampSteps steps after its first, not more than one in minStep.
const (
	rampSteps = 20
	minStep   = time.Second
	maxRamp   = 7 * 24 * time.Hour
)

// ramp is the goroutine that takes the steps of a route's ramp.
type ramp struct {
	route   string
	ends    time.Time
	cancel  context.CancelFunc
	expects []state.Weight // the weights of its last step
}

// steps is how many steps a ramp takes after its first.
func steps(total time.Duration) int {
	return int(min(max(total/minStep, 1), rampSteps))
}

// made is how many of n steps after the first a ramp has made.
func made(r *state.Ramp, n int) int {
	return int((r.Done*time.Duration(n) + r.Total/2) / r.Total)
}

// at is the k-th of n steps after the first (k = 0), in percent: between the two ends by shares, and
// exactly To at the last.
func at(r *state.Ramp, k, n int) []state.Weight {
	if k >= n {
		return slices.Clone(r.To)
	}
	sum := func(set []state.Weight) (s float64) {
		for _, w := range set {
			s += w.Weight
		}
		return s
	}
	part := float64(k+1) / float64(n+1)
	from, to := sum(r.From), sum(r.To)
	set := slices.Clone(r.To)
	for i := range set {
		share := (1-part)*r.From[i].Weight/from + part*r.To[i].Weight/to
		set[i].Weight = math.Round(share*1e5) / 1e3
	}
	return set
}

// Ramp moves a route to other weights in small steps over a time, the first at once, and returns the
// route. A change of the route's weights by anybody else ends it where it is, and so does a step that
// would be refused as a change of weights.
func (c *Controller) Ramp(route string, weights map[string]float64, over time.Duration, o Change) (proxy.RouteStatus, error) {
	if over <= 0 || over > maxRamp {
		return proxy.RouteStatus{}, &proxy.ControlError{Status: 422, Code: "invalid_ramp",
			Message: fmt.Sprintf("a ramp of %s: want more than 0, at most %s", over, maxRamp)}
	}
	leave, err := c.enter()
	if err != nil {
		return proxy.RouteStatus{}, err
	}
	defer leave()
	from, err := c.proxy.Weigh(route, nil)
	if err != nil {
		return proxy.RouteStatus{}, err
	}
	to, err := c.proxy.Weigh(route, weights)
	if err != nil {
		return proxy.RouteStatus{}, err
	}
	if slices.Equal(from, to) {
		return c.setWeights(state.KindWeights, route, weights, o)
	}
	r := &state.Ramp{From: from, To: to, Total: over, Force: o.Force, By: o.By, Reason: o.Reason}
	check := c.checkRoute(route, o.Expect)
	// The last step must not be the first to find out that it is refused.
	_, err = c.proxy.Update(proxy.Update{Weights: map[string]map[string]float64{route: weights}, Force: o.Force, DryRun: true})
	if err != nil {
		return proxy.RouteStatus{}, err
	}
	err = c.step(route, r, at(r, 0, steps(over)), o, func() error {
		if err := check(); err != nil {
			return err
		}
		if now, err := c.proxy.Weigh(route, nil); err != nil || !slices.Equal(now, from) {
			return &proxy.ControlError{Status: 409, Code: "conflict", Message: "route " + route + " was changed at the same moment; try again"}
		}
		return nil
	})
	if err != nil {
		return proxy.RouteStatus{}, err
	}
	c.start(route, r)
	status, _ := c.Route(route)
	return status, nil
}

// step sets the weights of one step; r is the ramp as it is after it, nil when that was the last.
func (c *Controller) step(route string, r *state.Ramp, weights []state.Weight, o Change, check func() error) error {
	_, err := c.proxy.Update(proxy.Update{
		Kind: state.KindRamp, Cause: o.Cause, Force: o.Force,
		Weights: map[string]map[string]float64{route: byName(weights)},
		Check: func() error {
			if err := check(); err != nil {
				return err
			}
			c.mu.Lock()
			c.begins = r // read by commit, under the proxy's lock as this is
			c.mu.Unlock()
			return nil
		},
	})
	return err
}

// start begins the goroutine of a ramp whose last step was r.Done into it.
func (c *Controller) start(route string, r *state.Ramp) {
	ctx, cancel := context.WithCancel(c.ctx)
	n := steps(r.Total)
	k := made(r, n)
	now := &ramp{route: route, ends: time.Now().Add(r.Total - r.Done), cancel: cancel, expects: at(r, k, n)}
	c.mu.Lock()
	if c.doc.Routes[route].Ramp != r { // overruled already
		c.mu.Unlock()
		cancel()
		return
	}
	if before := c.ramps[route]; before != nil {
		before.cancel()
	}
	c.ramps[route] = now
	c.mu.Unlock()
	c.hub.publish("ramp", rampEvent{Route: route, State: "started", To: r.To, Ends: now.ends, By: r.By, Reason: r.Reason})
	c.running.Go(func() { c.climb(ctx, now, *r, k, n) })
}

type rampEvent struct {
	Route  string         `json:"route"`
	State  string         `json:"state"` // started, finished, stopped
	To     []state.Weight `json:"to,omitempty"`
	Ends   time.Time      `json:"ends,omitzero"`
	By     string         `json:"by,omitempty"`
	Reason string         `json:"reason,omitempty"`
	Why    string         `json:"why,omitempty"` // it stopped
}

// climb takes the steps after the k-th.
func (c *Controller) climb(ctx context.Context, now *ramp, r state.Ramp, k, n int) {
	defer now.cancel()
	every := r.Total / time.Duration(n)
	tick := time.NewTicker(every)
	defer tick.Stop()
	for k < n {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		leave, err := c.enter()
		if err != nil {
			continue // frozen: go on when that is over, if it is
		}
		k++
		next := r
		next.Done = every * time.Duration(k)
		remains := &next
		if k == n {
			remains = nil
		}
		set := at(&r, k, n)
		err = c.step(now.route, remains, set, Change{Cause: proxy.Cause{By: r.By, Reason: r.Reason}, Force: r.Force}, func() error {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if have, err := c.proxy.Weigh(now.route, nil); err != nil || !slices.Equal(have, now.expects) {
				return &proxy.ControlError{Status: 409, Code: "conflict", Message: "the weights are not those of the ramp's last step"}
			}
			return nil
		})
		now.expects = set
		leave()
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			c.log.Warn("a ramp stops where it is", zap.String("route", now.route), zap.Error(err))
			c.endRampIf(now, err.Error())
			return
		}
	}
	c.mu.Lock()
	if c.ramps[now.route] == now {
		delete(c.ramps, now.route)
	}
	c.mu.Unlock()
	c.hub.publish("ramp", rampEvent{Route: now.route, State: "finished", To: r.To, By: r.By, Reason: r.Reason})
}

// StopRamp ends a route's ramp where it is, and returns the route.
func (c *Controller) StopRamp(route string, o Change) (proxy.RouteStatus, error) {
	leave, err := c.enter()
	if err != nil {
		return proxy.RouteStatus{}, err
	}
	defer leave()
	r, ok := c.Route(route)
	if !ok {
		_, err := c.proxy.Weigh(route, nil)
		return r, err
	}
	if err := o.Expect.check("route "+route, r.Generation); err != nil {
		return r, err
	}
	if r.Ramp == nil {
		return r, &proxy.ControlError{Status: 409, Code: "no_ramp", Message: "route " + route + " has no ramp under way"}
	}
	c.log.Info("a ramp was stopped", zap.String("route", route), zap.String("by", o.By), zap.String("reason", o.Reason))
	c.endRamp(route, "stopped by "+o.By)
	r.Ramp = nil
	return r, nil
}

// endRamp ends the ramp of a route, if it has one.
func (c *Controller) endRamp(route, why string) {
	c.mu.Lock()
	r := c.ramps[route]
	c.mu.Unlock()
	if r != nil {
		c.endRampIf(r, why)
	}
}

// endRampIf ends r unless another one has taken its place.
func (c *Controller) endRampIf(r *ramp, why string) {
	c.mu.Lock()
	if c.ramps[r.route] != r {
		c.mu.Unlock()
		return
	}
	delete(c.ramps, r.route)
	r.cancel()
	if saved, ok := c.doc.Routes[r.route]; ok && saved.Ramp != nil {
		doc := *c.doc
		doc.Routes = make(map[string]state.Route, len(c.doc.Routes))
		for name, s := range c.doc.Routes {
			doc.Routes[name] = s
		}
		saved.Ramp = nil
		doc.Routes[r.route] = saved
		c.save(&doc)
	}
	c.mu.Unlock()
	c.hub.publish("ramp", rampEvent{Route: r.route, State: "stopped", Why: why})
}

// resumeRamps goes on with ramps that a restart interrupted.
func (c *Controller) resumeRamps() {
	c.mu.Lock()
	var todo []string
	for name, r := range c.doc.Routes {
		if r.Ramp != nil && c.ramps[name] == nil {
			todo = append(todo, name)
		}
	}
	routes := c.doc.Routes
	c.mu.Unlock()
	slices.Sort(todo)
	for _, name := range todo {
		r := routes[name].Ramp
		n := steps(r.Total)
		have, err := c.proxy.Weigh(name, nil)
		if err == nil && slices.Equal(have, at(r, made(r, n), n)) {
			c.start(name, r)
		}
	}
}

// rampOf is the ramp of a route as its status shows it, nil when it has none.
func (c *Controller) rampOf(route string) *proxy.RampStatus {
	c.mu.Lock()
	defer c.mu.Unlock()
	r, saved := c.ramps[route], c.doc.Routes[route].Ramp
	if r == nil || saved == nil {
		return nil
	}
	return &proxy.RampStatus{To: saved.To, Ends: r.ends, By: saved.By, Reason: saved.Reason}
}
