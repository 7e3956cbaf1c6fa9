package control

import (
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"weir/balancer/rollout"
)

// TestEndsOfRolloutsAreCountedFromNone: whoever asks for the increase of a counter does not see the first event where
// the counter begins with it. A route with one variant has no rollouts.
func TestEndsOfRolloutsAreCountedFromNone(t *testing.T) {
	w := run(t, newStore(), newSite(t).parse(t))
	ends := func(aborted string) {
		t.Helper()
		want := `# HELP weir_rollouts_total Rollouts of the route that have ended, by how.
# TYPE weir_rollouts_total counter
weir_rollouts_total{outcome="aborted",route="predict"} ` + aborted + `
weir_rollouts_total{outcome="succeeded",route="predict"} 0
`
		if err := testutil.CollectAndCompare(w.Collector(), strings.NewReader(want), "weir_rollouts_total"); err != nil {
			t.Error(err)
		}
	}
	ends("0")
	w.roll()
	must[RolloutStatus](t)(w.CommandRollout("predict", rollout.Abort, by))
	ends("1")
}
