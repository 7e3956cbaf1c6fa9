package bench

import (
	"context"
	"time"
)

// Watcher follows the weights of a route and keeps a [Stickiness] apart from their changes.
type Watcher struct {
	*Stickiness
	admin  *Admin
	name   string
	route  *Route
	clock  func() time.Duration // the attack's
	change time.Duration
}

// NewWatcher returns the watcher of a route; clock is the offset from the start of the attack.
func NewWatcher(admin *Admin, route string, users int, clock func() time.Duration) *Watcher {
	return &Watcher{Stickiness: NewStickiness(users), admin: admin, name: route, clock: clock}
}

// Poll reads the route. When it is as it was at the last poll, the sightings since then count;
// otherwise everything starts anew. changed is false at the first poll.
func (w *Watcher) Poll(ctx context.Context) (changed bool, err error) {
	asked := w.clock()
	route, err := w.admin.Route(ctx, w.name)
	if err != nil {
		return false, err
	}
	known := w.clock()
	before := w.route
	w.route = route
	switch {
	case before == nil:
		w.change = asked
		return false, nil
	case before.Generation == route.Generation && before.SameWeights(route):
		w.Confirm(asked)
		return false, nil
	}
	w.Restart(known)
	w.change = known
	return true, nil
}

// Route is what the last poll found; nil before the first.
func (w *Watcher) Route() *Route { return w.route }

// Since is from when on the weights are known to be what they are.
func (w *Watcher) Since() time.Duration { return w.change }
