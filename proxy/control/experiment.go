package control

import (
	"encoding/json"
	"errors"
	"maps"
	"math"
	"net/http"
	"slices"
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

// allocate gives the arms of a route the weights that its experiment asks for, where it does, and nobody else has a say.
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
	records := c.proxy.ExperimentRecords()
	if len(records) == 0 {
		return
	}
	c.disk.Lock()
	defer c.disk.Unlock()
	if c.frozen.Load() != nil {
		return // the file may be another weir's
	}
	changed := false
	c.mu.Lock()
	doc := *c.doc
	doc.Routes = maps.Clone(c.doc.Routes)
	for name, record := range records {
		text, err := json.Marshal(record)
		saved, ok := doc.Routes[name]
		if err != nil || !ok || string(saved.Experiment) == string(text) {
			continue
		}
		saved.Experiment, changed = text, true
		doc.Routes[name] = saved
	}
	if changed {
		c.doc = &doc
	}
	c.mu.Unlock()
	if changed {
		c.save()
	}
}

// resumeExperiments goes on with experiments that a restart interrupted.
func (c *Controller) resumeExperiments() {
	c.mu.Lock()
	doc := c.doc
	c.mu.Unlock()
	for _, name := range slices.Sorted(maps.Keys(doc.Routes)) {
		text := doc.Routes[name].Experiment
		if len(text) == 0 {
			continue
		}
		var record proxy.ExperimentRecord
		if err := json.Unmarshal(text, &record); err != nil {
			c.log.Error("what an experiment of the last run has counted cannot be read; it begins anew", zap.String("route", name), zap.Error(err))
			continue
		}
		if !c.proxy.ResumeExperiment(name, record) {
			c.log.Info("the experiment of the last run has other arms or outcomes, or is gone; what it counted is dropped", zap.String("route", name))
		}
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
