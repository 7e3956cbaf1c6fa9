//go:build !race

package control

import (
	"testing"

	"weir/internal/state"
	"weir/proxy"
)

func TestRollbackBeyondTheHistory(t *testing.T) {
	x := run(t, newStore(), newSite(t).parse(t))
	for i := range state.MaxHistory {
		must[proxy.RouteStatus](t)(x.SetWeights("predict", map[string]float64{"blue": 1, "green": float64(i + 1)}, by))
	}
	if n := len(x.History()); n != state.MaxHistory {
		t.Errorf("%d changes kept, want %d", n, state.MaxHistory)
	}
	must[uint64](t)(x.Rollback(2, by)) // pushes another one out
	_, err := x.Rollback(1, by)
	refused(t, err, 409, "forgotten")
	must[uint64](t)(x.Rollback(3, by))
	must[uint64](t)(x.Rollback(3, by))
	_, err = x.Rollback(2, by)
	refused(t, err, 409, "forgotten")
}
