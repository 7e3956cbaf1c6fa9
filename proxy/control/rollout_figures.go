package control

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"weir/balancer"
	"weir/balancer/experiment"
	"weir/balancer/rollout"
	"weir/config"
	"weir/internal/stats"
)

// bounds are what an analysis holds figures from elsewhere to. It is data, and survives a restart.
type bounds struct {
	Prometheus []config.PrometheusAnalysis `json:"prometheus,omitempty"`
	Agreement  *config.AgreementAnalysis   `json:"agreement,omitempty"`
	Drift      *config.DriftAnalysis       `json:"drift,omitempty"`
	GPU        *config.GPUAnalysis         `json:"gpu,omitempty"`
	Experiment *config.ExperimentAnalysis  `json:"experiment,omitempty"`
	// Compared and Agreed are the mirror's figures when the rollout began.
	Compared uint64 `json:"compared,omitempty"`
	Agreed   uint64 `json:"agreed,omitempty"`
}

// figure is how one gauge is read.
type figure struct {
	gauge rollout.Gauge
	read  func(context.Context) rollout.Reading
}

// driftTimeout is how long the endpoints of both versions have to tell their scores.
const driftTimeout = 10 * time.Second

// figures are all gauges of a rollout, in the order of the status. What they are made of never changes.
func (c *Controller) figures(route, from, to string, b *bounds) []figure {
	var all []figure
	add := func(name string, inARow int, read func(context.Context) rollout.Reading) {
		all = append(all, figure{rollout.NewGauge(name, inARow), read})
	}
	for _, p := range b.Prometheus {
		add("prometheus "+p.Name, p.InARow, func(ctx context.Context) rollout.Reading { return readPrometheus(ctx, &c.outside, p) })
	}
	if b.Agreement != nil {
		add("agreement", 1, func(context.Context) rollout.Reading { return c.readAgreement(route, to, b) })
	}
	if b.Drift != nil {
		add("drift", b.Drift.InARow, func(ctx context.Context) rollout.Reading { return c.readDrift(ctx, from, to, b.Drift) })
	}
	if e := b.Experiment; e != nil {
		add("experiment", 1, func(context.Context) rollout.Reading { return c.readExperiment(route, from, to, e.Margin) })
	}
	if g := b.GPU; g != nil {
		for _, s := range []struct {
			name, what string
			signal     balancer.Signal
			most       float64
		}{{"gpu utilization", "the GPU is in use", balancer.GPU, g.MaxUtilization}, {"gpu memory", "the memory is in use", balancer.Memory, g.MaxMemory}} {
			if s.most > 0 {
				add(s.name, g.InARow, func(context.Context) rollout.Reading { return c.readSignal(to, s.what, s.signal, s.most, g.MaxAge) })
			}
		}
	}
	return all
}

// boundsOf are those of an analysis, nil where it has none, with the mirror's figures as they are now.
func (c *Controller) boundsOf(route string, a *config.Analysis) *bounds {
	if a == nil || len(a.Prometheus) == 0 && a.Agreement == nil && a.Drift == nil && a.GPU == nil && a.Experiment == nil {
		return nil
	}
	b := &bounds{Prometheus: a.Prometheus, Agreement: a.Agreement, Drift: a.Drift, GPU: a.GPU, Experiment: a.Experiment}
	if m, err := c.proxy.Mirror(route); err == nil {
		b.Compared, b.Agreed = m.Mirror.Compared, m.Mirror.Agreed
	}
	return b
}

// keepReading reads the gauges of a rollout while it gets traffic, as often as the analysis looks.
func (c *Controller) keepReading(r *rolling) {
	r.mu.Lock()
	is := &r.is
	if is.Bounds == nil {
		r.mu.Unlock()
		return
	}
	all := c.figures(r.route, is.From, is.To, is.Bounds)
	r.mu.Unlock()
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	var last time.Time
	for {
		select {
		case <-r.ctx.Done():
			return
		case now := <-tick.C:
			r.mu.Lock()
			due := is.State.Step != rollout.Unstarted && !is.State.Phase.Ended() && now.Sub(last) >= r.lookAfter(now)
			stretch := is.Stretch
			r.mu.Unlock()
			if !due || c.frozen.Load() != nil {
				continue
			}
			last = now
			c.takeIn(r, readAll(r.ctx, all), stretch)
		}
	}
}

// readAll reads gauges side by side.
func readAll(ctx context.Context, all []figure) []rollout.Reading {
	found := make([]rollout.Reading, len(all))
	var wait sync.WaitGroup
	for i, f := range all {
		wait.Go(func() { found[i] = f.read(ctx) })
	}
	wait.Wait()
	return found
}

// takeIn takes readings in, unless they are of a stretch that is over.
func (c *Controller) takeIn(r *rolling, found []rollout.Reading, stretch int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.is.State.Phase.Ended() || r.is.Stretch != stretch || r.ctx.Err() != nil {
		return
	}
	gauges := make([]rollout.Gauge, len(found))
	for i, reading := range found {
		gauges[i] = r.is.Gauges[i].Look(reading)
	}
	r.is.Gauges = gauges
	r.conclude()
	c.note(r)
	r.look()
}

// conclude puts what was counted and what was read together. Called with r.mu held.
func (r *rolling) conclude() {
	if r.judged.Verdict != "" {
		r.analysis = r.judged.With(r.is.Gauges)
	}
}

// look asks for a look at once.
func (r *rolling) look() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

func noData(format string, args ...any) rollout.Reading {
	return rollout.Reading{Why: fmt.Sprintf(format, args...)}
}

// short is a figure with four digits that count.
func short(x float64) string { return strconv.FormatFloat(x, 'g', 4, 64) }

// readPrometheus asks a query, and holds its one number to the bounds.
func readPrometheus(ctx context.Context, client *http.Client, p config.PrometheusAnalysis) rollout.Reading {
	ctx, cancel := context.WithTimeout(ctx, p.Timeout)
	defer cancel()
	v, err := queryPrometheus(ctx, client, p)
	switch {
	case err != nil:
		return noData("no data: %v", err)
	case math.IsNaN(v):
		return noData("no data: the result is NaN")
	}
	r := rollout.Reading{Known: true, Why: "it is " + short(v)}
	if !math.IsInf(v, 0) {
		r.Value = &v
	}
	switch {
	case p.Max != nil && v > *p.Max:
		r.Beyond, r.Why = true, fmt.Sprintf("it is %s, at most %s is allowed", short(v), short(*p.Max))
	case p.Min != nil && v < *p.Min:
		r.Beyond, r.Why = true, fmt.Sprintf("it is %s, at least %s is wanted", short(v), short(*p.Min))
	}
	return r
}

// queryPrometheus makes an instant query (POST /api/v1/query), whose result has to be one number.
func queryPrometheus(ctx context.Context, client *http.Client, p config.PrometheusAnalysis) (float64, error) {
	auth, err := authorization(p.TokenFile)
	if err != nil {
		return 0, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, strings.TrimRight(p.URL, "/")+"/api/v1/query", strings.NewReader(url.Values{"query": {p.Query}}.Encode()))
	if err != nil {
		return 0, bare(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("User-Agent", "weir")
	if auth != "" {
		req.Header.Set("Authorization", auth)
	}
	status, body, err := fetch(client, req)
	if err != nil {
		return 0, err
	}
	var a struct {
		Status string `json:"status"`
		Type   string `json:"errorType"`
		Error  string `json:"error"`
		Data   struct {
			Type   string          `json:"resultType"`
			Result json.RawMessage `json:"result"`
		} `json:"data"`
	}
	switch read := json.Unmarshal(body, &a); {
	case read != nil:
		return 0, fmt.Errorf("it answered %d%s", status, after(": ", oneLine(string(body))))
	case a.Status != "success":
		return 0, fmt.Errorf("it answered %d%s%s", status, after(" ", oneLine(a.Type)), after(": ", oneLine(a.Error)))
	}
	return oneNumber(a.Data.Type, a.Data.Result)
}

// oneNumber reads a scalar, or a vector of one series. A sample is its time and its value as a text.
func oneNumber(kind string, result json.RawMessage) (float64, error) {
	var sample [2]any
	switch kind {
	case "scalar":
		if err := json.Unmarshal(result, &sample); err != nil {
			return 0, fmt.Errorf("the result cannot be read: %w", err)
		}
	case "vector":
		var series []struct {
			Value [2]any `json:"value"`
		}
		if err := json.Unmarshal(result, &series); err != nil {
			return 0, fmt.Errorf("the result cannot be read: %w", err)
		}
		switch len(series) {
		case 0:
			return 0, fmt.Errorf("the result is empty")
		case 1:
			sample = series[0].Value
		default:
			return 0, fmt.Errorf("the result has %d series; write a query of one, such as sum(…)", len(series))
		}
	default:
		return 0, fmt.Errorf("the result is a %s; write a query of one number", oneLine(kind))
	}
	text, _ := sample[1].(string)
	v, err := strconv.ParseFloat(text, 64)
	if err != nil {
		return 0, fmt.Errorf("the result is %q, which is no number", oneLine(text))
	}
	return v, nil
}

// readAgreement holds the mirror's figures since the rollout began to the bound.
func (c *Controller) readAgreement(route, to string, b *bounds) rollout.Reading {
	m, err := c.proxy.Mirror(route)
	if err != nil {
		return noData("no data: %v", err)
	}
	if m.Mirror.Pool != to {
		return noData("no data: the route's mirror goes to pool %s, not to %s", m.Mirror.Pool, to)
	}
	compared, agreed := m.Mirror.Compared, m.Mirror.Agreed
	if compared >= b.Compared && agreed >= b.Agreed { // else they have begun anew since
		compared, agreed = compared-b.Compared, agreed-b.Agreed
	}
	if compared < uint64(b.Agreement.MinCompared) {
		return noData("%d of the %d answers that a judgement needs were compared", compared, b.Agreement.MinCompared)
	}
	share := min(float64(agreed)/float64(compared), 1)
	r := rollout.Reading{Known: true, Value: &share, Beyond: share < b.Agreement.Min}
	r.Why = fmt.Sprintf("%d of %d answers agree, %s %%", agreed, compared, short(100*share))
	if r.Beyond {
		r.Why += fmt.Sprintf(", at least %s %% is wanted", short(100*b.Agreement.Min))
	}
	return r
}

// readDrift compares the scores of both versions, as their endpoints tell them.
func (c *Controller) readDrift(ctx context.Context, from, to string, d *config.DriftAnalysis) rollout.Reading {
	ctx, cancel := context.WithTimeout(ctx, driftTimeout)
	defer cancel()
	before, err := c.scores(ctx, from, d)
	if err != nil {
		return noData("no data of the old version: %v", err)
	}
	now, err := c.scores(ctx, to, d)
	if err != nil {
		return noData("no data of the new version: %v", err)
	}
	found, err := stats.CompareDistributions(before, now, driftRule(d))
	if err != nil {
		return noData("no data: %v", err)
	}
	if !found.Enough {
		return noData("the old version has %d scores and the new one %d, of the %d each that a judgement needs", found.Reference, found.Current, d.MinScores)
	}
	r := rollout.Reading{Known: true, Beyond: found.Drifted, Value: &found.PSI, Why: describeDrift(&found, d)}
	if d.MaxPSI == 0 {
		r.Value = &found.KS
	}
	return r
}

// scores are those of a model in the windows of all of a pool's endpoints.
func (c *Controller) scores(ctx context.Context, pool string, d *config.DriftAnalysis) (stats.Distribution, error) {
	bodies, err := c.proxy.Fetch(ctx, pool, d.Path)
	if err != nil {
		return stats.Distribution{}, err
	}
	status, _ := c.proxy.Pool(pool)
	var sum stats.Distribution
	for _, body := range bodies {
		one, err := scoresOf(body, d.Model, status.Version)
		if err != nil {
			return sum, err
		}
		switch {
		case sum.Counts == nil:
			sum = stats.Distribution{Scale: one.Scale, Counts: map[int]uint64{}}
		case sum.Scale != one.Scale:
			return sum, fmt.Errorf("its endpoints count scores on different scales")
		}
		for bin, n := range one.Counts {
			sum.Counts[bin] += n
		}
	}
	if sum.Counts == nil {
		return sum, fmt.Errorf("pool %s has no healthy endpoint", pool)
	}
	return sum, nil
}

// scoresOf finds the window of a model in what GET /drift of weir-backend answers: of the one named, or the only one; of
// several versions of it that of the pool.
func scoresOf(body []byte, model, version string) (stats.Distribution, error) {
	var a struct {
		Models []struct {
			Model   string             `json:"model"`
			Version string             `json:"model_version"`
			Window  stats.Distribution `json:"window"`
		} `json:"models"`
	}
	if err := json.Unmarshal(body, &a); err != nil {
		return stats.Distribution{}, fmt.Errorf("what it tells of its scores cannot be read: %w", err)
	}
	var found []stats.Distribution
	var exact *stats.Distribution
	for i, m := range a.Models {
		if model != "" && m.Model != model || m.Window.Scale == "" { // of another model, or of one that gives no scores
			continue
		}
		found = append(found, m.Window)
		if m.Version == version {
			exact = &a.Models[i].Window
		}
	}
	switch {
	case len(found) == 0:
		return stats.Distribution{}, fmt.Errorf("it tells no scores%s", after(" of model ", model))
	case len(found) == 1:
		return found[0], found[0].Check()
	case model != "" && exact != nil:
		return *exact, exact.Check()
	case model == "":
		return stats.Distribution{}, fmt.Errorf("it serves %d models; write analysis.drift.model", len(found))
	}
	return stats.Distribution{}, fmt.Errorf("it serves %d versions of model %s, and none is the pool's version %q", len(found), model, version)
}

// readSignal holds what the busiest endpoint reports to a bound.
func (c *Controller) readSignal(pool, what string, s balancer.Signal, most float64, age time.Duration) rollout.Reading {
	v, at, ok := c.proxy.Peak(pool, s, age)
	if !ok {
		return noData("no endpoint has reported it within %v", age)
	}
	r := rollout.Reading{Known: true, Value: &v, Beyond: v > most, Why: fmt.Sprintf("%s %% of %s at %s", short(100*v), what, at)}
	if r.Beyond {
		r.Why += fmt.Sprintf(", at most %s %% is allowed", short(100*most))
	}
	return r
}

// readExperiment asks the route's experiment whether the new version is worse. Its intervals hold at every look, so that
// it is the one figure that may fail at once.
func (c *Controller) readExperiment(route, from, to string, margin float64) rollout.Reading {
	e, err := c.proxy.Experiment(route)
	switch {
	case err != nil:
		return noData("no data: %v", err)
	case e.Control != from:
		return noData("no data: the experiment compares with %s, not with the old version %s", e.Control, from)
	case e.Mismatch:
		return noData("the experiment is not to be trusted: units do not go to the arms by their weights")
	}
	at := slices.IndexFunc(e.Arms, func(a experiment.ArmResult) bool { return a.Name == to })
	if at < 0 {
		return noData("no data: the experiment has no arm %s", to)
	}
	for _, o := range e.Arms[at].Outcomes {
		if o.Worse {
			return rollout.Reading{Known: true, Beyond: true, Value: o.Effect,
				Why: fmt.Sprintf("%s is worse: by %s, which is between %s and %s", o.Name, short(*o.Effect), short(*o.Low), short(*o.High))}
		}
	}
	o := &e.Arms[at].Outcomes[0]
	if o.Effect == nil || o.Relative == nil {
		return noData("too few units for a judgement of %s: %d", o.Name, o.Units)
	}
	allowed := margin * math.Abs(*o.Effect / *o.Relative)
	worst := -*o.Low
	if o.Decrease {
		worst = *o.High
	}
	if worst > allowed {
		return noData("%s may still be worse by %s, %s is allowed", o.Name, short(worst), short(allowed))
	}
	return rollout.Reading{Known: true, Value: o.Effect, Why: fmt.Sprintf("%s is worse by no more than %s", o.Name, short(max(worst, 0)))}
}
