package main

import (
	"context"
	"math"
	"time"

	"weir/bench"
)

// collector adds the results of an attack up once a second, which bounds the memory that
// sightings of users take, and says how it goes.
type collector struct {
	*work
	attack   *bench.Attack
	users    *userCount
	total    *bench.Tally
	timeline bench.Timeline
	meter    *bench.Meter
	taken    time.Duration // from the start of the attack, when results were last taken
	elapsed  time.Duration // in all
}

func newCollector(w *work, attack *bench.Attack) *collector {
	return &collector{work: w, attack: attack, users: w.newUserCount(attack), total: bench.NewTally(w.slo)}
}

// collect runs the attack.
func (c *collector) collect(ctx context.Context) error {
	// The weights that the first requests are split by, for the first look at a change.
	if err := c.users.add(nil); err != nil {
		c.progress.keep(err.Error())
	}
	finished := make(chan error, 1)
	go func() { finished <- c.attack.Run(ctx) }()
	c.meter = bench.StartMeter()
	warm := time.NewTimer(c.warmup)
	defer warm.Stop()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-warm.C:
			// What the warm-up used does not count either; nor does a tick just after its end.
			c.meter, c.taken = bench.StartMeter(), c.warmup
			tick.Reset(time.Second)
		case <-tick.C:
			c.take()
			c.show()
		case err := <-finished:
			if err != nil {
				return err
			}
			c.take()
			c.elapsed = c.taken
			return nil
		}
	}
}

// take takes in what happened since the last time.
func (c *collector) take() {
	part := c.attack.Take()
	from, to := c.taken, time.Since(c.attack.Start())
	c.taken = to
	c.total.Merge(part)
	if err := c.users.add(part.Sightings); err != nil {
		c.progress.keep(err.Error())
	}
	if to <= c.warmup {
		return
	}
	c.timeline.Add(part, max(0, from-c.warmup), to-c.warmup)
	if err := c.log.add(part, c.attack.Start().Add(from), c.attack.Start().Add(to)); err != nil {
		c.progress.keep(err.Error())
	}
}

// show says how it goes.
func (c *collector) show() {
	if n := len(c.timeline.Intervals); n > 0 {
		c.progress.interval(&c.timeline.Intervals[n-1], c.length)
		return
	}
	c.progress.show("warming up")
}

// report is what was collected.
func (c *collector) report(interrupted bool) *bench.Report {
	elapsed := max(0, c.elapsed-c.warmup)
	if c.length > 0 && !c.closed {
		// Rates are over the time in which requests were due, not the wait for the last answers.
		if elapsed = min(elapsed, c.length); !interrupted {
			elapsed = c.length // the last answer may come before
		}
	}
	r := bench.Summarize(c.total, elapsed)
	r.Target, r.Arrivals, r.Rate = c.runOptions.target, c.arrivals, c.plan.Mean(elapsed)
	if c.closed {
		r.Arrivals, r.Rate = "closed", 0
	}
	r.Seed, r.Connections, r.Interrupted, r.Warmup = c.seed, c.connections, interrupted, c.warmup.Seconds()
	if c.protocol.http2 {
		r.Streams = c.protocol.streams
	}
	r.Series = c.timeline.Intervals
	if c.work.users > 0 {
		r.Users = c.users.report(c.work.users)
	}
	r.Split = c.split(r)
	c.meter.Stop(r)
	return r
}

// split compares the shares with the weights, where some are known. A user's requests all go
// to one variant, so with users they are what is counted.
func (c *collector) split(r *bench.Report) *bench.Split {
	weights := c.weights
	if weights == nil {
		if weights = c.users.weights(); weights == nil {
			return nil
		}
	}
	if r.Users != nil {
		return bench.CheckSplit("users", r.Users.ByVariant, weights)
	}
	counts := map[string]uint64{}
	for _, v := range r.Variants {
		if v.Variant != "" {
			counts[v.Variant] = v.Requests
		}
	}
	if c.weights == nil && c.users.changed {
		return &bench.Split{
			Of: "requests", Weights: weights, Observed: counts, Verdict: bench.SplitUnknown,
			Why: "the weights changed during the run",
		}
	}
	return bench.CheckSplit("requests", counts, weights)
}

// userCount follows users through the whole run, or since the weights changed when there is
// an admin API to ask.
type userCount struct {
	stickiness *bench.Stickiness
	watcher    *bench.Watcher // nil without an admin API
	changed    bool           // the weights were not the same all the time
}

func (o *runOptions) newUserCount(attack *bench.Attack) *userCount {
	if o.admin == "" {
		return &userCount{stickiness: bench.NewStickiness(o.users)}
	}
	clock := func() time.Duration { return time.Since(attack.Start()) }
	w := bench.NewWatcher(bench.NewAdmin(o.admin), o.route, o.users, clock)
	return &userCount{stickiness: w.Stickiness, watcher: w}
}

func (u *userCount) add(sightings []bench.Sighting) error {
	u.stickiness.Add(sightings)
	if u.watcher == nil {
		u.stickiness.Confirm(math.MaxInt64)
		return nil
	}
	// The attack's end must not end the last look.
	changed, err := u.watcher.Poll(context.Background())
	u.changed = u.changed || changed
	return err
}

// weights are those of the last look; nil without an admin API, or an answer from it.
func (u *userCount) weights() map[string]float64 {
	if u.watcher == nil || u.watcher.Route() == nil {
		return nil
	}
	return u.watcher.Route().Weights()
}

func (u *userCount) report(total int) *bench.Users {
	byVariant, moved := u.stickiness.Users()
	r := &bench.Users{Total: total, ByVariant: byVariant, Moved: moved}
	for _, n := range byVariant {
		r.Seen += n
	}
	return r
}
