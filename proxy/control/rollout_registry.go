package control

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"
	"weir/balancer/rollout"
	"weir/config"
)

// registryMove is a model's version that the registry is to call something while it serves, and what it called so
// before. It is data, and survives a restart.
type registryMove struct {
	URL       string `json:"url"`
	TokenFile string `json:"token_file,omitempty"`
	Model     string `json:"model"`
	Version   string `json:"version"`
	Alias     string `json:"alias,omitempty"`
	Stage     string `json:"stage,omitempty"`

	// Noted: the next three are how it was before. Versions are "" where there was none.
	Noted   bool   `json:"noted,omitempty"`
	AliasAt string `json:"alias_at,omitempty"`
	StageAt string `json:"stage_at,omitempty"`
	StageOf string `json:"stage_of,omitempty"` // where the version was
	// Moved: the registry calls it so.
	Moved bool `json:"moved,omitempty"`
	// Failed is why it could not be moved, or moved back; it is tried again.
	Failed string `json:"failed,omitempty"`
}

// note looks up how it is before the move.
func (v *registryMove) note(ctx context.Context, m *mlflow) (err error) {
	if v.Alias != "" {
		if v.AliasAt, err = m.aliased(ctx, v.Model, v.Alias); err != nil {
			return err
		}
	}
	if v.Stage != "" {
		if v.StageAt, err = m.staged(ctx, v.Model, v.Stage); err != nil {
			return err
		}
		now, err := m.version(ctx, v.Model, v.Version, "")
		if err != nil {
			return err
		}
		v.StageOf = cmp.Or(now.Stage, "None")
	}
	v.Noted = true
	return nil
}

// forth names the version. Half of it may have been done before.
func (v *registryMove) forth(ctx context.Context, m *mlflow) error {
	if v.Alias != "" {
		if err := m.setAlias(ctx, v.Model, v.Alias, v.Version); err != nil {
			return err
		}
	}
	if v.Stage != "" && v.StageOf != v.Stage {
		if err := m.setStage(ctx, v.Model, v.Version, v.Stage, true); err != nil {
			return err
		}
	}
	v.Moved = true
	return nil
}

// back names what was named before, unless somebody has named another version since.
func (v *registryMove) back(ctx context.Context, m *mlflow) error {
	if v.Alias != "" && v.AliasAt != v.Version {
		at, err := m.aliased(ctx, v.Model, v.Alias)
		if err != nil {
			return err
		}
		if at == v.Version {
			if err := m.setAlias(ctx, v.Model, v.Alias, v.AliasAt); err != nil {
				return err
			}
		}
	}
	if v.Stage != "" && v.StageOf != v.Stage {
		now, err := m.version(ctx, v.Model, v.Version, "")
		if err != nil {
			return err
		}
		if now.Stage == v.Stage {
			if v.StageAt != "" {
				if err := m.setStage(ctx, v.Model, v.StageAt, v.Stage, false); err != nil {
					return err
				}
			}
			if err := m.setStage(ctx, v.Model, v.Version, v.StageOf, false); err != nil {
				return err
			}
		}
	}
	v.Noted, v.Moved, v.AliasAt, v.StageAt, v.StageOf = false, false, "", "", ""
	return nil
}

// called are the names that the version is to get.
func (v *registryMove) called() string {
	return strings.Join(slices.DeleteFunc([]string{v.Alias, v.Stage}, func(s string) bool { return s == "" }), " and ")
}

// RegistryStatus is what a model registry is to call a version that has been rolled out.
type RegistryStatus struct {
	Model   string `json:"model"`
	Version string `json:"version"`
	Alias   string `json:"alias,omitempty"`
	Stage   string `json:"stage,omitempty"`
	Moved   bool   `json:"moved"` // it is called so
	// Why says why it could not be moved, or moved back; it is tried again. "" where nothing went wrong.
	Why string `json:"why,omitempty"`
}

func (is *rolloutRecord) registry() []RegistryStatus {
	var all []RegistryStatus
	for _, v := range is.Registry {
		all = append(all, RegistryStatus{v.Model, v.Version, v.Alias, v.Stage, v.Moved, v.Failed})
	}
	return all
}

// Times of the registry.
const (
	registryEvery   = 250 * time.Millisecond // from one look at what serves to the next
	registryTimeout = 10 * time.Second       // for a move
	registryAgain   = 5 * time.Second        // after one that failed
)

// keepRegistry has the registry call the new version what it is to be called while that serves, and what it was before
// otherwise. It goes on after the rollout's end, since the version may lose its requests again: until the next rollout of the
// route, or the end of weir.
func (c *Controller) keepRegistry(r *rolling) {
	if !slices.ContainsFunc(r.is.Checks.Gates, func(g config.Gate) bool { return g.MLflow != nil && g.MLflow.SetAlias+g.MLflow.SetStage != "" }) {
		return // r.is.Checks never changes
	}
	tick := time.NewTicker(registryEvery)
	defer tick.Stop()
	var again time.Time
	for {
		select {
		case <-c.ctx.Done():
			return
		case <-tick.C:
		}
		c.mu.Lock()
		e := c.rollouts[r.route]
		last := e != nil && e.rolling == r
		c.mu.Unlock()
		if !last {
			return
		}
		if time.Now().Before(again) {
			continue
		}
		if !c.moveRegistry(r) {
			again = time.Now().Add(registryAgain)
		}
	}
}

// moveRegistry makes the moves that are due, and reports whether none failed.
func (c *Controller) moveRegistry(r *rolling) bool {
	if c.frozen.Load() != nil {
		return true // nothing changes now
	}
	r.mu.Lock()
	serves, known := c.serves(r)
	moves := slices.Clone(r.is.Registry)
	r.mu.Unlock()
	good := true
	for i := range moves {
		if !known || moves[i].Moved == serves {
			continue
		}
		now, err := c.moveOne(r, i, moves[i], serves)
		now.Failed = ""
		if err != nil {
			good, now.Failed = false, err.Error()
			c.log.Error("the model registry cannot be told what serves; it is tried again", zap.String("route", r.route), zap.String("model", now.Model), zap.Error(err))
		}
		if c.noteMove(r, i, now) && err == nil {
			c.log.Info("the model registry was told what serves", zap.String("route", r.route), zap.String("model", now.Model), zap.String("version", now.Version),
				zap.String("called", now.called()), zap.Bool("moved", now.Moved))
		}
	}
	return good
}

// moveOne moves a name forth or back. How it was before is on disk before it is changed.
func (c *Controller) moveOne(r *rolling, i int, v registryMove, forth bool) (registryMove, error) {
	ctx, cancel := context.WithTimeout(c.ctx, registryTimeout)
	defer cancel()
	m, err := newMLflow(&c.outside, v.URL, v.TokenFile)
	if err != nil {
		return v, err
	}
	if !forth {
		err = v.back(ctx, m)
		return v, err
	}
	if !v.Noted {
		if err := v.note(ctx, m); err != nil {
			return v, err
		}
		c.noteMove(r, i, v)
	}
	err = v.forth(ctx, m)
	return v, err
}

// noteMove remembers how a move stands, and reports whether that is new. What was frozen meanwhile is done again later,
// which changes nothing.
func (c *Controller) noteMove(r *rolling, i int, v registryMove) bool {
	leave, err := c.enter()
	if err != nil {
		return false
	}
	defer leave()
	r.mu.Lock()
	defer r.mu.Unlock()
	if i >= len(r.is.Registry) || r.is.Registry[i] == v {
		return false
	}
	r.is.Registry = slices.Clone(r.is.Registry)
	r.is.Registry[i] = v
	c.remember(r)
	return true
}

// serves reports whether the new version is what serves: it has been rolled out, and has not lost its requests since.
// known is false where nobody can tell, as the route or a variant is gone. Called with r.mu held.
func (c *Controller) serves(r *rolling) (serves, known bool) {
	plan, state := &r.is.Plan, r.is.State
	if plan.Auto != nil && plan.Auto.Keep && !state.Phase.Ended() { // it never succeeds, and may go back
		return state.Step == len(plan.Steps)-1, true
	}
	if state.Phase != rollout.Succeeded {
		return false, true
	}
	weights, err := c.proxy.Weigh(r.route, nil)
	if err != nil || !has(weights, r.is.To) {
		return false, false
	}
	for _, w := range weights {
		if w.Pool == r.is.To {
			return w.Weight > 0, true
		}
	}
	return false, false
}
