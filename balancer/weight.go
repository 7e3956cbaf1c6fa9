package balancer

import (
	"fmt"
	"math"
	"time"
)

// weighing says how reports become weights. The figures are those of gRPC's client-side weighted round robin
// (gRFC A58) where it has them.
type weighing struct {
	halfLife time.Duration          // of the average over what is reported, also during the blackout
	blackout time.Duration          // after the first report; so long the endpoint has the mean weight
	expiry   [sources]time.Duration // the age from which on a report counts as none
	target   float64                // milliseconds in the queue that count as full
	limit    float64                // requests under way that count as full, where the report has no limit; 0: no number does
	penalty  float64                // for a request that fails, as part of the utilization that it took
	change   float64                // by which a weight may grow in a second; it shrinks by as much
	band     float64                // hysteresis: less of a difference changes nothing
	most     float64                // times the mean; 1/most at least
}

// knee is the part of its memory from which on a server is taken for ever fuller. Below, memory says nothing about
// load: model servers keep what they once took.
const knee = 0.9

// weighEvery is the time between two changes of weights.
const weighEvery = time.Second

func defaultWeighing() weighing {
	return weighing{
		halfLife: 5 * time.Second, blackout: 10 * time.Second, expiry: [sources]time.Duration{10 * time.Second, 3 * time.Second},
		target: 100, penalty: 1, change: 0.2, band: 0.05, most: 4,
	}
}

// usage is how full a server is by its own account.
type usage struct {
	full   float64 // 1 is full
	by     Signal  // which signal says so
	rate   float64 // requests per second; 0 when it is not reported
	errors float64 // of each request: the part that fails; without a rate, 0
}

// usageOf returns how full figures say that a server is: as full as the fullest of its resources. ok is false when
// they say nothing, or nothing but zeros: such a server has the mean weight, as in gRFC A58.
//
// The queue leads: it is compared with a target and has no upper end, while the utilization of a GPU is the part of
// the time in which anything ran, and is 1 long before the GPU is full.
func (w *weighing) usageOf(f *Figures) (u usage, ok bool) {
	consider := func(s Signal, full float64) {
		if full > u.full {
			u.full, u.by = full, s
		}
	}
	if v, ok := f.Get(QueueTime); ok {
		consider(QueueTime, v/w.target)
	}
	if v, ok := f.Get(Utilization); ok {
		consider(Utilization, v)
	}
	if v, ok := f.Get(GPU); ok {
		consider(GPU, v)
	}
	if v, ok := f.Get(Memory); ok {
		consider(Memory, (v-knee)/(1-knee))
	}
	limit, ok := f.Get(Limit)
	if !ok {
		limit = w.limit
	}
	if v, ok := f.Get(Running); ok && limit > 0 {
		consider(Running, v/limit)
	}
	u.rate = f.Values[Rate]
	if u.rate > 0 {
		u.errors = min(1, f.Values[ErrorRate]/u.rate)
	}
	return u, u.full > 0
}

// course is how an endpoint's reports went so far. Its zero value is an endpoint that never reported.
type course struct {
	began  time.Time // when its reports began that have come without a gap since; zero while there are none
	ticked time.Time // when usage was averaged last
	usage            // averages
	ever   bool      // whether there ever was a report
	factor float64   // of the configured weight; 0 stands for 1
	moving bool      // whether factor is on its way, which hysteresis does not end
}

// reading is what is known of an endpoint at one moment.
type reading struct {
	figures Figures
	fresh   bool // whether a report is young enough to count
}

// Weighting is how an endpoint's reports led to its weight.
type Weighting struct {
	Factor float64 // of the configured weight; 1 is the mean of the pool
	Target float64 // what Factor moves to
	Full   float64 // how full the endpoint is on average, 1 is full; 0 when nothing counts
	By     Signal  // which signal says so, if Full is not 0
	Why    string  // "no report", "stale → mean", "blackout → mean", "alone → mean", "clamped …", "held", or ""
}

// follow takes in what was reported as of now.
func (c *course) follow(w *weighing, r *reading, now time.Time) (counts bool, why string) {
	var u usage
	known := false
	if r.fresh {
		u, known = w.usageOf(&r.figures)
	}
	switch {
	case !known:
		c.began, c.usage = time.Time{}, usage{}
		if r.fresh {
			return false, "idle → mean"
		}
		if !c.ever {
			return false, "no report"
		}
		return false, "stale → mean"
	case c.began.IsZero():
		c.began, c.usage, c.ever = now, u, true
	default:
		old := math.Exp2(-float64(now.Sub(c.ticked)) / float64(w.halfLife))
		c.full += (1 - old) * (u.full - c.full)
		c.errors += (1 - old) * (u.errors - c.errors)
		if c.rate > 0 && u.rate > 0 {
			c.rate += (1 - old) * (u.rate - c.rate)
		} else {
			c.rate = u.rate
		}
		c.by = u.by
	}
	c.ticked = now
	if now.Sub(c.began) < w.blackout {
		return false, "blackout → mean"
	}
	return true, ""
}

// weights moves the courses of a pool's endpoints on to now, weighEvery after the last time, by what was read of
// each, and returns the weights they lead to. It is pure but for the courses.
//
// An endpoint whose reports count is worth x = 1 / (full + penalty · errors), and gets x divided by the mean of x; the
// others get the mean. Where all report their rate beside a utilization that grows with it, x is rate / (…) as in
// gRFC A58: that is what the endpoint could bear, and does not change when its share does. A queue grows faster than
// the rate, and a GPU's utilization stops to grow, so that their quotient would run away: with these x has no rate.
// weir's own rate is never used, for the same reason.
func (w *weighing) weights(courses []course, readings []reading, now time.Time) []Weighting {
	out := make([]Weighting, len(courses))
	counted, counts, byRate := 0, make([]bool, len(courses)), true
	for i := range courses {
		c := &courses[i]
		if counts[i], out[i].Why = c.follow(w, &readings[i], now); counts[i] {
			counted++
			byRate = byRate && c.rate > 0 && c.by == Utilization
		}
		out[i].Full, out[i].By = c.full, c.by
	}
	mean := 0.0
	worth := func(c *course) float64 {
		x := 1 / (c.full + w.penalty*c.errors)
		if byRate {
			x *= c.rate
		}
		return x
	}
	for i := range courses {
		if counts[i] {
			mean += worth(&courses[i]) / float64(counted)
		}
	}
	for i := range courses {
		o := &out[i]
		o.Target = 1
		switch {
		case !counts[i]:
		case counted < 2:
			o.Why = "alone → mean"
		default:
			o.Target = worth(&courses[i]) / mean
			if clipped := min(max(o.Target, 1/w.most), w.most); clipped != o.Target {
				o.Target, o.Why = clipped, fmt.Sprintf("clamped to %.3g of the mean", clipped)
			}
		}
		courses[i].move(w, o)
	}
	return out
}

// move brings the factor nearer to the target.
func (c *course) move(w *weighing, o *Weighting) {
	was := c.factor
	if was == 0 {
		was = 1
	}
	up := 1 + w.change
	c.moving = o.Target != was && (c.moving || o.Target == 1 || math.Abs(o.Target/was-1) >= w.band)
	c.factor = was
	if c.moving {
		c.factor = min(max(o.Target, was/up), was*up)
		c.moving = c.factor != o.Target
	} else if o.Target != was && o.Why == "" {
		o.Why = "held"
	}
	if o.Factor = c.factor; o.Factor != o.Target && o.Why == "" {
		o.Why = fmt.Sprintf("clamped to %.0f %%/s", 100*w.change)
	}
}
