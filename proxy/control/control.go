// Package control is the one way in which routing changes while weir runs, whoever asks: the file, the
// API, a ramp. It remembers each change in the history and on disk before it is in force, and tells those
// who listen when it is.
//
// What a change does to requests is the proxy's (proxy.Update, proxy.ApplyFor), which also numbers
// the changes and orders them. Its lock is taken first, the Controller's inside.
package control

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"weir/balancer"
	"weir/config"
	"weir/internal/certificate/acme"
	"weir/internal/state"
	"weir/proxy"
)

// Options are what a Controller is made of.
type Options struct {
	// Proxy are the options of the proxy that is steered; Remembered, Commit, Health, Ejected, Breaker and Certificate are New's.
	Proxy proxy.Options
	// Store keeps what survives a restart. Close closes it.
	Store state.Store
	Log   *zap.Logger // nil logs nothing
}

// Controller steers a proxy. Make it with New, and give it a configuration with Apply.
type Controller struct {
	proxy *proxy.Proxy
	log   *zap.Logger
	hub   *hub

	// gate is held for reading by every change: who has it for writing knows that none is under way.
	gate   sync.RWMutex
	frozen atomic.Pointer[proxy.ControlError] // why no change begins
	closed atomic.Bool

	disk  sync.Mutex // held while the store is used, and taken before mu
	store state.Store

	failures atomic.Uint64 // of saving

	mu      sync.Mutex       // held for moments
	doc     *state.Document  // as saved last, or as it should have been
	unsaved error            // why that failed
	ramps   map[string]*ramp // by route, those that doc has: both change at once
	// rollouts by route, under way and the last that has ended; their order of locks is at rolling.
	rollouts map[string]*rolloutEntry
	outcomes map[outcome]uint64     // rollouts that have ended since the start
	drifts   map[string]DriftReport // by route, of those that are compared all the time; replaced as a whole
	notifier *notifier
	outside  http.Client     // asks those who have a say in rollouts
	taken    *step           // the last step of a ramp; written and followed under the proxy's lock, too
	ctx      context.Context // ends the ramps
	cancel   context.CancelFunc
	running  sync.WaitGroup
	detached bool        // the store is another process'; guarded by disk
	applied  atomic.Bool // a configuration was, since the start
}

// New makes a proxy and its Controller from what the store remembers.
func New(o Options) (*Controller, error) {
	if o.Log == nil {
		o.Log = zap.NewNop()
	}
	doc, err := o.Store.Load()
	if err != nil {
		return nil, err
	}
	c := &Controller{store: o.Store, log: o.Log, hub: newHub(), ramps: map[string]*ramp{}, rollouts: map[string]*rolloutEntry{}, outcomes: map[outcome]uint64{}}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	c.doc = doc
	if doc == nil {
		c.doc = &state.Document{Format: state.Format}
	}
	o.Proxy.Remembered, o.Proxy.Commit = doc, c.commit
	o.Proxy.Health, o.Proxy.Ejected, o.Proxy.Breaker = c.healthChanged, c.ejectionChanged, c.breakerChanged
	o.Proxy.Certificate = func(e acme.Event) { c.hub.publish("certificate", e) }
	c.proxy = proxy.New(o.Proxy)
	c.notifier, c.outside = newNotifier(o.Log), newOutside()
	c.running.Go(c.keepSaving)
	c.running.Go(c.keepExperiments)
	c.running.Go(c.keepComparing)
	c.running.Go(func() { c.notifier.run(c.ctx) })
	return c, nil
}

// Proxy is the proxy that is steered.
func (c *Controller) Proxy() *proxy.Proxy { return c.proxy }

// Freeze refuses all changes from now on with why, and waits for those under way. Ramps stand still, and go
// on after a restart.
func (c *Controller) Freeze(why *proxy.ControlError) {
	c.freeze(why)
	c.quiesce()
}

// quiesce waits for the changes under way.
func (c *Controller) quiesce() {
	c.gate.Lock()
	defer c.gate.Unlock()
}

// freeze sets why no change begins; nil lets them. After Close it stays as it is.
func (c *Controller) freeze(why *proxy.ControlError) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.closed.Load() {
		c.frozen.Store(why)
	}
}

// Close refuses all changes, ends the ramps and the event streams, waits for a change under way, and closes the
// store. A disk that hangs makes it wait, once; a second Close does not.
func (c *Controller) Close() error {
	c.freeze(&proxy.ControlError{Status: 503, Code: "stopping", Message: "weir is stopping; nothing is changed any more"})
	if c.closed.Swap(true) {
		return nil
	}
	c.cancel()
	c.hub.close()
	c.quiesce()
	c.running.Wait()
	c.disk.Lock()
	defer c.disk.Unlock()
	if !c.detached {
		c.writeExperiments()
	}
	return c.store.Close()
}

// enter begins a change; the caller calls leave at its end where the error is nil.
func (c *Controller) enter() (leave func(), err error) {
	if why := c.frozen.Load(); why != nil { // before the gate, which may be waited for
		return nil, why
	}
	c.gate.RLock()
	if why := c.frozen.Load(); why != nil {
		defer c.gate.RUnlock()
		return nil, why
	}
	return c.gate.RUnlock, nil
}

// saveAgain is how often a document is saved again that could not be.
const saveAgain = 5 * time.Second

// keepSaving saves again what could not be saved, until it can or weir stops.
func (c *Controller) keepSaving() {
	tick := time.NewTicker(saveAgain)
	defer tick.Stop()
	for {
		select {
		case <-c.ctx.Done():
			return
		case <-tick.C:
		}
		c.disk.Lock()
		if c.Unsaved() != nil && c.frozen.Load() == nil {
			c.save()
		}
		c.disk.Unlock()
	}
}

// Apply puts a configuration in force, as proxy.ApplyFor does. Those of a route's ramps end whose split
// it changes.
func (c *Controller) Apply(cfg *config.Config, cause proxy.Cause) (generation uint64, changes []string, err error) {
	leave, err := c.enter()
	if err != nil {
		return c.proxy.Generation(), nil, err
	}
	defer leave()
	generation, changes, err = c.proxy.ApplyFor(cfg, cause)
	if err == nil {
		c.resumeRamps()
		c.resumeRollouts()
		c.applied.Store(true)
	}
	return generation, changes, err
}

// ReloadFailed tells that a configuration was rejected.
func (c *Controller) ReloadFailed(by string, faults []string) {
	c.proxy.ReloadFailed()
	c.hub.publish("reload_failed", struct {
		By     string   `json:"by"`
		Faults []string `json:"faults"`
	}{by, faults})
}

// Expect says which generations of what is changed a caller is ready to overwrite; nil is any.
type Expect func(generation uint64) bool

// check refuses what lost a race.
func (e Expect) check(what string, generation uint64) error {
	if e == nil || e(generation) {
		return nil
	}
	return &proxy.ControlError{Status: 412, Code: "precondition_failed",
		Message: fmt.Sprintf("%s was changed meanwhile: it is at generation %d now", what, generation)}
}

func (c *Controller) checkRoute(name string, e Expect) func() error {
	return func() error {
		if r, ok := c.proxy.Route(name); ok {
			return e.check("route "+name, r.Generation)
		}
		return nil
	}
}

// Change are the parts that all changes have.
type Change struct {
	proxy.Cause
	Expect Expect
	Force  bool // whatever the health and the capacity of the endpoints
}

// SetWeights gives a route new weights, from the next request on, and returns the route. What proxy.Update
// refuses it refuses.
func (c *Controller) SetWeights(route string, weights map[string]float64, o Change) (proxy.RouteStatus, error) {
	return c.setWeights(state.KindWeights, route, weights, o)
}

func (c *Controller) setWeights(kind, route string, weights map[string]float64, o Change) (proxy.RouteStatus, error) {
	leave, err := c.enter()
	if err != nil {
		return proxy.RouteStatus{}, err
	}
	defer leave()
	if err := c.vacate(route, weights, o); err != nil {
		return proxy.RouteStatus{}, err
	}
	return c.set(kind, route, weights, o, c.checkRoute(route, o.Expect))
}

// set is setWeights for who has entered. check is called when nothing else can change any more.
func (c *Controller) set(kind, route string, weights map[string]float64, o Change, check func() error) (proxy.RouteStatus, error) {
	_, err := c.proxy.Update(proxy.Update{
		Kind: kind, Cause: o.Cause, Force: o.Force, Weights: map[string]map[string]float64{route: weights},
		Check: func() error {
			if err := check(); err != nil {
				return err
			}
			// Who sets the weights that a ramp has reached wants it to stay there, and no change ends it.
			if want, err := c.proxy.Weigh(route, weights); err == nil && c.at(route, want) {
				c.endRamp(route, o.Cause, "the weights were set to where it was")
			}
			return nil
		},
	})
	if err != nil {
		return proxy.RouteStatus{}, err
	}
	r, _ := c.Route(route)
	return r, nil
}

// at reports whether a route is at these weights.
func (c *Controller) at(route string, weights []state.Weight) bool {
	now, err := c.proxy.Weigh(route, nil)
	return err == nil && slices.Equal(now, weights)
}

// Switch sends all traffic of a route to one variant, and returns the route.
func (c *Controller) Switch(route, to string, o Change) (proxy.RouteStatus, error) {
	r, ok := c.proxy.Route(route)
	weights := map[string]float64{}
	var names []string
	for _, v := range r.Variants {
		weights[v.Pool] = 0
		names = append(names, v.Pool)
	}
	if _, known := weights[to]; ok && !known && names != nil {
		return proxy.RouteStatus{}, &proxy.ControlError{Status: 422, Code: "unknown_variant",
			Message: fmt.Sprintf("route %s has no variant %q (have %s)", route, to, strings.Join(names, ", "))}
	}
	weights[to] = 100
	return c.setWeights(state.KindSwitch, route, weights, o)
}

// SwitchBack gives a route the weights it had before its last switch, and returns the route. It is a switch
// too: switching back once more undoes it. It returns a *ControlError of 409 where there was no switch, or
// where the variants are others by now.
func (c *Controller) SwitchBack(route string, o Change) (proxy.RouteStatus, error) {
	leave, err := c.enter()
	if err != nil {
		return proxy.RouteStatus{}, err
	}
	defer leave()
	back := c.back(route)
	if _, ok := c.proxy.Route(route); ok && back == nil {
		return proxy.RouteStatus{}, &proxy.ControlError{Status: 409, Code: "no_switch",
			Message: fmt.Sprintf("route %s was not switched: there is nothing to go back to", route)}
	}
	if err := c.vacate(route, nil, o); err != nil {
		return proxy.RouteStatus{}, err
	}
	expected := c.checkRoute(route, o.Expect)
	r, err := c.set(state.KindSwitch, route, byName(back), o, func() error {
		if err := expected(); err != nil {
			return err
		}
		if !slices.Equal(c.back(route), back) { // two that go back at once would both go to the same place
			return conflict(route)
		}
		return nil
	})
	var refused *proxy.ControlError
	if errors.As(err, &refused) && refused.Status == 422 { // they were good once
		return r, &proxy.ControlError{Status: 409, Code: "gone",
			Message: fmt.Sprintf("route %s cannot go back to the weights before its last switch, %s: %v", route, names(back), refused)}
	}
	return r, err
}

// back are the weights before the last switch of a route.
func (c *Controller) back(route string) []state.Weight {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.doc.Routes[route].Back
}

func conflict(route string) error {
	return &proxy.ControlError{Status: 409, Code: "conflict", Message: "route " + route + " was changed at the same moment; try again"}
}

func names(set []state.Weight) string {
	var s []string
	for _, w := range set {
		s = append(s, fmt.Sprintf("%s=%v", w.Pool, w.Weight))
	}
	return strings.Join(s, " ")
}

func byName(set []state.Weight) map[string]float64 {
	weights := map[string]float64{}
	for _, w := range set {
		weights[w.Pool] = w.Weight
	}
	return weights
}

// Drain begins (or with on false ends) the drain of a pool, or of one endpoint where that is not "", and
// returns the pool.
func (c *Controller) Drain(pool, endpoint string, on bool, o Change) (proxy.PoolStatus, error) {
	leave, err := c.enter()
	if err != nil {
		return proxy.PoolStatus{}, err
	}
	defer leave()
	kind := state.KindDrain
	if !on {
		kind = state.KindUndrain
	}
	_, err = c.proxy.Update(proxy.Update{
		Kind: kind, Cause: o.Cause, Force: o.Force,
		Drains: []state.DrainChange{{Pool: pool, Endpoint: endpoint, Draining: on}},
		Check: func() error {
			if p, ok := c.proxy.Pool(pool); ok {
				return o.Expect.check("pool "+pool, p.Generation)
			}
			return nil
		},
	})
	if err != nil {
		return proxy.PoolStatus{}, err
	}
	p, _ := c.proxy.Pool(pool)
	return p, nil
}

func (c *Controller) healthChanged(e *balancer.Endpoint, healthy bool, why string) {
	c.hub.publish("health", struct {
		Pool     string `json:"pool"`
		Endpoint string `json:"endpoint"`
		Healthy  bool   `json:"healthy"`
		Why      string `json:"why"`
	}{e.Pool, e.Address, healthy, why})
}

func (c *Controller) ejectionChanged(e *balancer.Endpoint, ejected bool, why string, until time.Time) {
	c.hub.publish("ejection", EjectionEvent{e.Pool, e.Address, ejected, why, until})
}

// EjectionEvent is the data of an event: an endpoint was ejected as an outlier, or came back.
type EjectionEvent struct {
	Pool     string    `json:"pool"`
	Endpoint string    `json:"endpoint"`
	Ejected  bool      `json:"ejected"`
	Why      string    `json:"why"`
	Until    time.Time `json:"until,omitzero"`
}

func (c *Controller) breakerChanged(pool string, open bool, refused uint64) {
	c.hub.publish("circuit_breaker", BreakerEvent{pool, open, refused})
}

// BreakerEvent is the data of an event: a pool's circuit breaker has begun to refuse, or does no more.
type BreakerEvent struct {
	Pool    string `json:"pool"`
	Open    bool   `json:"open"`
	Refused uint64 `json:"refused"` // since the start
}

// Status is the proxy's, with the ramps, and with what keeps the state from being saved.
func (c *Controller) Status() proxy.Status {
	s := c.proxy.Status()
	for i := range s.Routes {
		s.Routes[i].Ramp = c.rampOf(s.Routes[i].Name)
		s.Routes[i].Rollout = c.rolloutOf(s.Routes[i].Name)
	}
	if why := c.frozen.Load(); why != nil {
		s.Degraded = true
		s.Reasons = append(s.Reasons, "changes are refused: "+why.Message)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.unsaved != nil {
		s.Degraded = true
		s.Reasons = append(s.Reasons, "the state cannot be saved, a restart would forget what was changed: "+c.unsaved.Error())
	}
	return s
}

// Route is the proxy's, with its ramp.
func (c *Controller) Route(name string) (proxy.RouteStatus, bool) {
	r, ok := c.proxy.Route(name)
	r.Ramp, r.Rollout = c.rampOf(name), c.rolloutOf(name)
	return r, ok
}

// Pool is the proxy's.
func (c *Controller) Pool(name string) (proxy.PoolStatus, bool) { return c.proxy.Pool(name) }

// Scale says what a pool bears, and how many replicas it should have.
func (c *Controller) Scale(name string) (proxy.ScaleStatus, bool) { return c.proxy.Scale(name) }

// Mirror is the proxy's.
func (c *Controller) Mirror(route string) (proxy.MirrorReport, error) { return c.proxy.Mirror(route) }

// Generation is the number of the last change.
func (c *Controller) Generation() uint64 { return c.proxy.Generation() }

// Unsaved says why the last change could not be saved; nil when it was.
func (c *Controller) Unsaved() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.unsaved
}
