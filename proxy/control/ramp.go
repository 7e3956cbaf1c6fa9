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
	is      state.Ramp // as it began, or was found after a restart
	n, k    int        // steps after the first, and how many of them are made
	ends    time.Time
	ctx     context.Context
	cancel  context.CancelFunc
	expects []state.Weight // the weights of its last step
	begun   bool
}

// step is one step of a ramp, which ends where nothing remains. The first takes the place of replaced, if
// there was one.
type step struct {
	ramp, replaced *ramp
	remains        *state.Ramp
}

// first is the generation of the first step of the ramp, which is this step's where it has none yet.
func (s *step) first(generation uint64) uint64 {
	if s.ramp.is.First == 0 {
		s.ramp.is.First = generation
		if s.remains != nil {
			s.remains.First = generation
		}
	}
	return s.ramp.is.First
}

func (c *Controller) newRamp(route string, is *state.Ramp) *ramp {
	n := steps(is.Total)
	k := made(is, n)
	r := &ramp{route: route, is: *is, n: n, k: k, ends: time.Now().Add(is.Total - is.Done), expects: at(is, k, n)}
	r.ctx, r.cancel = context.WithCancel(c.ctx)
	return r
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
			Message: fmt.Sprintf("a ramp of %s: want more than 0, at most %d days", over, maxRamp/(24*time.Hour))}
	}
	leave, err := c.enter()
	if err != nil {
		return proxy.RouteStatus{}, err
	}
	defer leave()
	if err := c.vacate(route, weights, o); err != nil {
		return proxy.RouteStatus{}, err
	}
	from, err := c.proxy.Weigh(route, nil)
	if err != nil {
		return proxy.RouteStatus{}, err
	}
	to, err := c.proxy.Weigh(route, weights)
	if err != nil {
		return proxy.RouteStatus{}, err
	}
	check := c.checkRoute(route, o.Expect)
	if slices.Equal(from, to) {
		return c.set(state.KindWeights, route, weights, o, check)
	}
	// The last step must not be the first to find out that it is refused.
	_, err = c.proxy.Update(proxy.Update{Weights: map[string]map[string]float64{route: weights}, Force: o.Force, DryRun: true})
	if err != nil {
		return proxy.RouteStatus{}, err
	}
	is := &state.Ramp{From: from, To: to, Total: over, Force: o.Force, By: o.By, Reason: o.Reason}
	r := c.newRamp(route, is)
	err = c.step(r, is, r.expects, func() error {
		if err := check(); err != nil {
			return err
		}
		if !c.at(route, from) {
			return conflict(route)
		}
		return nil
	})
	if err != nil {
		r.cancel()
		return proxy.RouteStatus{}, err
	}
	status, _ := c.Route(route)
	return status, nil
}

// step sets the weights of one step of r; remains is the ramp as it is after it, nil when that was the last.
func (c *Controller) step(r *ramp, remains *state.Ramp, weights []state.Weight, check func() error) error {
	_, err := c.proxy.Update(proxy.Update{
		Kind: state.KindRamp, Cause: proxy.Cause{By: r.is.By, Reason: r.is.Reason}, Force: r.is.Force,
		Weights: map[string]map[string]float64{r.route: byName(weights)},
		Check: func() error {
			if err := check(); err != nil {
				return err
			}
			s := &step{ramp: r, remains: remains}
			c.mu.Lock()
			c.taken = s
			c.mu.Unlock()
			if c.at(r.route, weights) { // as when it is small: a step that changes nothing and that nobody commits
				c.disk.Lock()
				c.mu.Lock()
				c.follow(s)
				noted := c.noteRamp(r.route, remains)
				c.mu.Unlock()
				if noted {
					c.save()
				}
				c.disk.Unlock()
				c.tellStep(s)
			}
			return nil
		},
	})
	return err
}

// follow notes which ramp a route has after a step. Called with mu held.
func (c *Controller) follow(s *step) {
	if now := c.ramps[s.ramp.route]; now != nil && now != s.ramp {
		s.replaced = now
		now.cancel()
	}
	if s.remains == nil {
		c.drop(s.ramp)
		return
	}
	c.ramps[s.ramp.route] = s.ramp
}

// drop ends a ramp; its goroutine takes no more steps. Called with mu held.
func (c *Controller) drop(r *ramp) {
	delete(c.ramps, r.route)
	r.cancel()
}

type rampEvent struct {
	Route  string         `json:"route"`
	State  string         `json:"state"` // started, finished, stopped
	To     []state.Weight `json:"to,omitempty"`
	Ends   time.Time      `json:"ends,omitzero"`
	By     string         `json:"by,omitempty"`     // who began it, or stopped it
	Reason string         `json:"reason,omitempty"` // in their words
	Why    string         `json:"why,omitempty"`    // it stopped, where nobody asked for that
}

// tellStep tells what a step began and ended, once it is in force.
func (c *Controller) tellStep(s *step) {
	if s.replaced != nil {
		c.tellStopped(s.replaced, proxy.Cause{By: s.ramp.is.By, Reason: s.ramp.is.Reason}, "another ramp began")
	}
	is := &s.ramp.is
	if !s.ramp.begun {
		c.begin(s.ramp)
	}
	if s.remains == nil {
		c.hub.publish("ramp", rampEvent{Route: s.ramp.route, State: "finished", To: is.To, By: is.By, Reason: is.Reason})
	}
}

// begin starts the goroutine of a ramp that is in c.ramps.
func (c *Controller) begin(r *ramp) {
	r.begun = true
	c.hub.publish("ramp", rampEvent{Route: r.route, State: "started", To: r.is.To, Ends: r.ends, By: r.is.By, Reason: r.is.Reason})
	c.running.Go(func() { c.climb(r) })
}

// tellStopped tells who stopped a ramp and for which reason, and what stopped it where that was not asked for.
func (c *Controller) tellStopped(r *ramp, cause proxy.Cause, why string) {
	c.hub.publish("ramp", rampEvent{Route: r.route, State: "stopped", By: cause.By, Reason: cause.Reason, Why: why})
}

// climb takes the steps that remain.
func (c *Controller) climb(r *ramp) {
	defer r.cancel()
	every := r.is.Total / time.Duration(r.n)
	tick := time.NewTicker(every)
	defer tick.Stop()
	for r.k < r.n {
		select {
		case <-r.ctx.Done():
			return
		case <-tick.C:
		}
		leave, err := c.enter()
		if err != nil {
			continue // frozen: go on when that is over, if it is
		}
		err = c.stepUp(r, every)
		leave()
		if r.ctx.Err() != nil {
			return // it was its last step, or somebody ended it
		}
		if err != nil {
			c.log.Warn("a ramp stops where it is", zap.String("route", r.route), zap.Error(err))
			c.endRampIf(r, proxy.Cause{}, err.Error())
			return
		}
	}
}

// stepUp takes the next step of a ramp.
func (c *Controller) stepUp(r *ramp, every time.Duration) error {
	r.k++
	next := r.is
	next.Done = every * time.Duration(r.k)
	remains := &next
	if r.k == r.n {
		remains = nil
	}
	before := r.expects
	r.expects = at(&r.is, r.k, r.n)
	return c.step(r, remains, r.expects, func() error {
		if r.ctx.Err() != nil {
			return r.ctx.Err()
		}
		if !c.at(r.route, before) {
			return &proxy.ControlError{Status: 409, Code: "conflict", Message: "the weights are not those of the ramp's last step"}
		}
		return nil
	})
}

// inOrder calls f while no change is under way.
func (c *Controller) inOrder(f func() error) error {
	_, err := c.proxy.Update(proxy.Update{Check: f})
	return err
}

// StopRamp ends a route's ramp where it is, and returns the route.
func (c *Controller) StopRamp(route string, o Change) (proxy.RouteStatus, error) {
	leave, err := c.enter()
	if err != nil {
		return proxy.RouteStatus{}, err
	}
	defer leave()
	check := c.checkRoute(route, o.Expect)
	err = c.inOrder(func() error {
		if _, err := c.proxy.Weigh(route, nil); err != nil {
			return err
		}
		if err := check(); err != nil {
			return err
		}
		if !c.endRamp(route, o.Cause, "") {
			return &proxy.ControlError{Status: 409, Code: "no_ramp", Message: "route " + route + " has no ramp under way"}
		}
		return nil
	})
	if err != nil {
		return proxy.RouteStatus{}, err
	}
	c.log.Info("a ramp was stopped", zap.String("route", route), zap.String("by", o.By), zap.String("reason", o.Reason))
	r, _ := c.Route(route)
	return r, nil
}

// endRamp ends the ramp of a route, and reports whether it has one. It is called in order with the changes
// (Update's Check): a step that is being taken would note the ramp anew.
func (c *Controller) endRamp(route string, cause proxy.Cause, why string) bool {
	c.mu.Lock()
	r := c.ramps[route]
	c.mu.Unlock()
	return r != nil && c.endRampIf(r, cause, why)
}

// endRampIf ends r unless it has ended or another one has taken its place.
func (c *Controller) endRampIf(r *ramp, cause proxy.Cause, why string) bool {
	c.disk.Lock()
	defer c.disk.Unlock()
	c.mu.Lock()
	if c.ramps[r.route] != r {
		c.mu.Unlock()
		return false
	}
	c.drop(r)
	noted := c.noteRamp(r.route, nil)
	c.mu.Unlock()
	if noted {
		c.save()
	}
	c.tellStopped(r, cause, why)
	return true
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
	c.mu.Unlock()
	slices.Sort(todo)
	for _, name := range todo {
		_ = c.inOrder(func() error { c.resume(name); return nil })
	}
}

// resume goes on with the ramp of a route, in order with the changes.
func (c *Controller) resume(route string) {
	c.disk.Lock()
	defer c.disk.Unlock()
	c.mu.Lock()
	is := c.doc.Routes[route].Ramp
	if is == nil || c.ramps[route] != nil { // meanwhile
		c.mu.Unlock()
		return
	}
	r := c.newRamp(route, is)
	if !c.at(route, r.expects) { // a weir that takes other steps wrote it
		r.cancel()
		c.noteRamp(route, nil)
		c.mu.Unlock()
		c.save()
		c.log.Warn("a ramp does not go on after the restart: the weights are not those of its last step", zap.String("route", route))
		return
	}
	c.ramps[route] = r
	c.mu.Unlock()
	c.begin(r)
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
