package control

import (
	"fmt"
	"testing"
	"time"

	"weir/config"
)

// TestRolloutReadsTheExperiment: a rollout's check by the route's experiment passes what is better, fails what is worse, and
// says nothing of what it cannot know.
func TestRolloutReadsTheExperiment(t *testing.T) {
	for _, c := range []struct {
		goal     string
		from, to string
		users    int
		known    bool
		beyond   bool
	}{
		{config.GoalIncrease, "blue", "green", 400, true, false},
		{config.GoalDecrease, "blue", "green", 400, true, true},
		{config.GoalIncrease, "green", "blue", 400, false, false},
		{config.GoalIncrease, "blue", "red", 400, false, false},
		{config.GoalIncrease, "blue", "green", 20, false, false},
	} {
		t.Run(fmt.Sprint(c.goal, " ", c.from, " ", c.to, " ", c.users), func(t *testing.T) {
			cfg := scored(t)
			cfg.Routes[0].Experiment.Outcomes[0].Goal = c.goal
			w := run(t, newStore(), cfg)
			for i := range c.users {
				w.ask("/predict", fmt.Sprint("user-", i))
			}
			for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
				e, err := w.Experiment("predict")
				if err != nil {
					t.Fatal(err)
				}
				if int(e.Arms[0].Outcomes[0].Units+e.Arms[1].Outcomes[0].Units) == c.users {
					break
				}
				if time.Now().After(deadline) {
					t.Fatal("not all users have a value")
				}
			}
			r := w.readExperiment("predict", c.from, c.to, 0.02)
			if r.Known != c.known || r.Beyond != c.beyond || r.Why == "" {
				t.Errorf("%+v", r)
			}
		})
	}
	w := run(t, newStore(), newSite(t).parse(t))
	if r := w.readExperiment("predict", "blue", "green", 0.02); r.Known || r.Why == "" {
		t.Errorf("without an experiment: %+v", r)
	}
}
