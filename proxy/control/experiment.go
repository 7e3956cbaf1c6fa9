package control

import (
	"encoding/json"
	"errors"
	"maps"
	"math"
	"net/http"
	"time"

	"go.uber.org/zap"

	"weir/balancer/experiment"
	"weir/internal/state"
	"weir/proxy"
)

// experimentsEvery is how often what experiments have counted is saved, and their weights are looked at: so much a kill may
// cost.
const experimentsEvery = 10 * time.Second

// leastShift is the change of an arm's share, in percent of the route, below which weights stay as they are: every change is
// an epoch of its own, and an entry of the history.
const leastShift = 1.0

// keepExperiments looks after experiments until weir stops.
func (c *Controller) keepExperiments() {
	tick := time.NewTicker(experimentsEvery)
	defer tick.Stop()
	allocated := map[string]time.Time{}
	for {
		select {
		case <-c.ctx.Done():
			return
		case now := <-tick.C:
			c.saveExperiments()
			for route := range c.proxy.ExperimentRecords() {
				c.allocate(route, now, allocated)
			}
		}
	}
}

// allocate gives the arms of a route the weights that its experiment asks for, where it does, and nobody else has a say: no
// rollout or ramp is under way, and every arm has a weight.
func (c *Controller) allocate(route string, now time.Time, allocated map[string]time.Time) {
	weights, every, ok := c.proxy.AllocateArms(route)
	if !ok || now.Sub(allocated[route]) < every {
		return
	}
	c.mu.Lock()
	ramps := c.ramps[route] != nil
	c.mu.Unlock()
	before, err := c.proxy.Weigh(route, nil)
	if err != nil || ramps {
		return
	}
	allocated[route] = now
	most := 0.0
	for _, w := range inPercent(before) {
		if w.Weight == 0 {
			return // somebody, or a rollout that was aborted, has taken the arm off the users
		}
		most = max(most, math.Abs(w.Weight-weights[w.Pool]))
	}
	if most < leastShift {
		return
	}
	_, err = c.setWeights(state.KindExperiment, route, weights, Change{Cause: proxy.Cause{By: "experiment", Reason: "the probability that each is the best"}})
	if refused, ok := errors.AsType[*proxy.ControlError](err); ok && refused.Status == http.StatusConflict {
		return // a rollout is under way, or an arm has no endpoint: later
	}
	if err != nil {
		c.log.Error("an experiment cannot set weights", zap.String("route", route), zap.Error(err))
	}
}

// saveExperiments saves what experiments have counted, while changes may be made.
func (c *Controller) saveExperiments() {
	c.disk.Lock()
	defer c.disk.Unlock()
	if c.frozen.Load() == nil { // else the file may be another weir's
		c.writeExperiments()
	}
}

// writeExperiments is called with disk held, and while the store is this process'.
func (c *Controller) writeExperiments() {
	if !c.applied.Load() {
		return // nobody has gone on with what is saved
	}
	records, changed := c.proxy.ExperimentRecords(), false
	c.mu.Lock()
	doc := *c.doc
	doc.Routes = maps.Clone(c.doc.Routes)
	for name, saved := range doc.Routes {
		var text []byte // of a route without an experiment, which must not go on some day
		if record, ok := records[name]; ok {
			var err error
			if text, err = json.Marshal(record); err != nil {
				c.log.Error("what an experiment has counted cannot be saved", zap.String("route", name), zap.Error(err))
				continue
			}
		}
		if string(saved.Experiment) != string(text) {
			saved.Experiment, changed = text, true
			doc.Routes[name] = saved
		}
	}
	if changed {
		c.doc = &doc
	}
	c.mu.Unlock()
	if changed {
		c.save()
	}
}

// Experiment is what a route's experiment has come to, or a *ControlError of 404.
func (c *Controller) Experiment(route string) (experiment.Result, error) {
	return c.proxy.Experiment(route)
}

// ReportOutcome notes an outcome of a request, as Proxy.ReportOutcome does.
func (c *Controller) ReportOutcome(route, requestID, outcome string, value float64) error {
	return c.proxy.ReportOutcome(route, requestID, outcome, value)
}
