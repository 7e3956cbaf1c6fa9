package proxy

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"weir/balancer"
	"weir/config"
)

// ControlError is why a change was refused: Status and Code for the API, Message for the operator.
type ControlError struct {
	Status  int // 404, 409 or 422
	Code    string
	Message string
}

func (e *ControlError) Error() string { return e.Message }

// reloadState is how the last attempt to apply a configuration went.
type reloadState struct {
	ok bool
	at time.Time // of the last one that succeeded
}

// ReloadFailed notes that a configuration could not even be read, for the metric that an operator is
// alerted by.
func (p *Proxy) ReloadFailed() {
	p.reloads.Store(&reloadState{at: p.reloads.Load().at})
}

func (t *table) unknownRoute(name string) *ControlError {
	return &ControlError{Status: 404, Code: "unknown_route", Message: fmt.Sprintf("unknown route %q (have %s)", name, strings.Join(t.routeNames(), ", "))}
}

// weigh checks weights against the route's variants and brings them into their order.
func (r *route) weigh(weights map[string]float64) ([]config.Variant, error) {
	refuse := func(format string, args ...any) error {
		return &ControlError{Status: 422, Code: "invalid_weights", Message: fmt.Sprintf("route "+r.cfg.Name+": "+format, args...)}
	}
	if len(r.cfg.Split) == 0 {
		return nil, &ControlError{Status: 409, Code: "no_split",
			Message: "route " + r.cfg.Name + " answers by itself and has no variants, so that there are no weights to set"}
	}
	var names []string
	for _, v := range r.cfg.Split {
		names = append(names, v.Pool)
	}
	for _, name := range slices.Sorted(maps.Keys(weights)) { // a slip in a name first, not what it left without a weight
		if !slices.Contains(names, name) {
			return nil, refuse("unknown variant %q (have %s)", name, strings.Join(names, ", "))
		}
	}
	var set []config.Variant
	sum := 0.0
	for _, v := range r.cfg.Split {
		w, ok := weights[v.Pool]
		switch {
		case !ok:
			return nil, refuse("no weight for variant %q: every variant needs one, 0 for no new requests", v.Pool)
		case w < 0 || math.IsNaN(w) || math.IsInf(w, 0):
			return nil, refuse("weight %v of variant %q: want a number from 0 up", w, v.Pool)
		case w > config.MaxWeight: // as in the file; what is remembered is held to it, too
			return nil, refuse("weight %v of variant %q: want at most %v", w, v.Pool, config.MaxWeight)
		}
		sum += w
		set = append(set, config.Variant{Pool: v.Pool, Weight: w})
	}
	if sum == 0 {
		return nil, refuse("the weights sum to 0: at least one must be above 0")
	}
	return set, nil
}

func (r *route) weights() (set []config.Variant) {
	for _, v := range r.split.Variants() {
		set = append(set, config.Variant{Pool: v.Pool.Name(), Weight: v.Weight})
	}
	return set
}

func describe(set []config.Variant) string {
	var b strings.Builder
	for i, v := range set {
		if i > 0 {
			b.WriteByte(' ')
		}
		fmt.Fprintf(&b, "%s=%v", v.Pool, v.Weight)
	}
	return b.String()
}

func sameWeights(a, b *balancer.Split) bool {
	return slices.EqualFunc(a.Variants(), b.Variants(), func(x, y balancer.Variant) bool {
		return x.Pool.Name() == y.Pool.Name() && x.Weight == y.Weight
	})
}
