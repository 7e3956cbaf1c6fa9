package control

import (
	"maps"
	"slices"

	"go.uber.org/zap"
	"weir/internal/state"
	"weir/proxy"
)

// maxLines bounds what the history holds beside the number of changes: routes, drains and notes. A reload
// of a thousand routes is a thousand of them, and all are written at each change.
const maxLines = 10_000

// commit is proxy.Options.Commit: it saves the change before it is in force.
func (c *Controller) commit(change state.Change, doc *state.Document) (after func()) {
	c.disk.Lock()
	defer c.disk.Unlock()
	if change.Kind == state.KindRamp {
		change.First = c.taken.first(change.Generation)
	}
	overruled := c.take(change, doc)
	c.save()
	return func() {
		c.hub.publish("change", change)
		for _, r := range overruled {
			c.tellStopped(r, proxy.Cause{By: change.By, Reason: change.Reason}, "the weights were changed: "+change.Kind)
		}
		if change.Kind == state.KindRamp {
			c.tellStep(c.taken)
		}
	}
}

// take makes doc, with a change, the document, and returns the ramps that the change ends.
func (c *Controller) take(change state.Change, doc *state.Document) (overruled []*ramp) {
	c.mu.Lock()
	defer c.mu.Unlock()
	doc.History = newest(append(slices.Clip(c.doc.History), change))
	changed := map[string]state.RouteChange{}
	for _, r := range change.Routes {
		changed[r.Route] = r
	}
	for name, r := range doc.Routes {
		before := c.doc.Routes[name]
		r.Back = before.Back
		now, moved := changed[name]
		if moved && change.Kind == state.KindSwitch {
			r.Back = now.Before
		}
		switch {
		case moved && change.Kind == state.KindRamp:
			r.Ramp = c.taken.remains
		case !moved && slices.Equal(r.Split, before.Split): // a new split overrules it even where the weights are the same
			r.Ramp = before.Ramp
		}
		if e := c.rollouts[name]; e != nil {
			r.Rollout = e.saved
		} else {
			r.Rollout = before.Rollout
		}
		r.Experiment = before.Experiment
		doc.Routes[name] = r
	}
	if change.Kind == state.KindRamp {
		c.follow(c.taken)
	}
	for _, name := range slices.Sorted(maps.Keys(c.ramps)) {
		if doc.Routes[name].Ramp == nil {
			overruled = append(overruled, c.ramps[name])
			c.drop(c.ramps[name])
		}
	}
	c.doc = doc
	return overruled
}

// newest is what is kept of a history.
func newest(history []state.Change) []state.Change {
	from, lines := len(history), 0
	for from > 0 && len(history)-from < state.MaxHistory {
		h := history[from-1]
		lines += len(h.Routes) + len(h.Drains) + len(h.Notes)
		if lines > maxLines && from < len(history) {
			break
		}
		from--
	}
	if from == 0 {
		return history
	}
	return slices.Clone(history[from:])
}

// save keeps the document. Traffic can be steered without a disk: what cannot be saved is in force all the
// same, and weir says that a restart would forget it. Called with disk held, and not mu: a disk that hangs must
// not keep anybody from seeing what is.
func (c *Controller) save() {
	c.mu.Lock()
	doc, before := c.doc, c.unsaved
	c.mu.Unlock()
	err := c.store.Save(doc)
	if err != nil {
		c.failures.Add(1)
		c.log.Error("the state cannot be saved: a restart would forget what was changed", zap.Error(err), zap.Uint64("generation", doc.Generation))
	} else if before != nil {
		c.log.Info("the state can be saved again", zap.Uint64("generation", doc.Generation))
	}
	c.mu.Lock()
	c.unsaved = err
	c.mu.Unlock()
}

// noteRamp notes how far a ramp is, or with nil that there is none, where nothing else changes. It returns
// whether that is to be saved. Called with disk and mu held.
func (c *Controller) noteRamp(route string, r *state.Ramp) bool {
	saved, ok := c.doc.Routes[route]
	if !ok || saved.Ramp == r {
		return false
	}
	doc := *c.doc
	doc.Routes = maps.Clone(c.doc.Routes)
	saved.Ramp = r
	doc.Routes[route] = saved
	c.doc = &doc
	return true
}
