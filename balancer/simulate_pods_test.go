// Virtual time, and one goroutine after the other: the race detector has nothing to find here, and takes minutes.

//go:build !race

package balancer

import (
	"container/heap"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"weir/backend/load"
)

// pods are simulated servers behind a real pool, under an open loop of Poisson arrivals, in a bubble of synctest, whose
// clock is a fake. A run of one seed differs from the next only by the draws of the policy.
type pods struct {
	policy  string // of the pool, or nginx for the peer's least_conn
	pods    []pod
	rate    float64 // requests per second
	warmup  time.Duration
	time    time.Duration
	seed    uint64
	reports bool // whether answers tell utilization and rate
	weights []float64
	each    func(*Pool) // each second of the run
}

// pod is a server with a queue of its own: servers requests run at one time, the others wait, first come first served.
type pod struct {
	service time.Duration                            // of one request on average
	spread  func(*rand.Rand) float64                 // of the service around its mean, 1 on average
	servers int                                      // 0: 1
	slower  func(since time.Duration) float64        // nil: 1, at all times
	fails   func(since time.Duration) (part float64) // of the requests, at once; nil: none

	running int
	queue   []*call
	busy    float64 // utilization, as an average over about a second
	rate    float64 // of what it answers, the same
	at      time.Time
}

// call is one request.
type call struct {
	came, ends time.Time
	e          *Endpoint
	pod        int
	rif        int64
	failed     bool
}

// exponential, lognormal and constant are spreads of service times.
func exponential(r *rand.Rand) float64 { return r.ExpFloat64() }

func lognormal(sigma float64) func(*rand.Rand) float64 {
	return func(r *rand.Rand) float64 { return math.Exp(sigma*r.NormFloat64() - sigma*sigma/2) }
}

func constant(*rand.Rand) float64 { return 1 }

// outcome is what came of a run after its warm-up.
type outcome struct {
	latencies []time.Duration // of successes, ascending
	failed    int
	shares    []int
}

func (o *outcome) quantile(q float64) time.Duration {
	return o.latencies[min(len(o.latencies)-1, int(q*float64(len(o.latencies))))]
}

func (o *outcome) share(i int) float64 { return share(o.shares, i) }

func (o *outcome) String() string {
	ms := func(q float64) float64 { return float64(o.quantile(q).Microseconds()) / 1000 }
	return fmt.Sprintf("p50 %.1f ms, p99 %.1f ms, p99.9 %.1f ms, %d failed", ms(0.5), ms(0.99), ms(0.999), o.failed)
}

// leastConn is nginx's least_conn: the fewest connections for the weight, among equals smooth round robin.
type leastConn struct {
	members []member
	credit  []float64
}

func (l *leastConn) pick() *Endpoint {
	var ties []int
	best := math.Inf(1)
	for i, m := range l.members {
		switch x := float64(m.e.Inflight()) / m.weight; {
		case x < best:
			best, ties = x, append(ties[:0], i)
		case x == best:
			ties = append(ties, i)
		}
	}
	chosen, total := ties[0], 0.0
	for _, i := range ties {
		l.credit[i] += l.members[i].weight
		total += l.members[i].weight
		if l.credit[i] > l.credit[chosen] {
			chosen = i
		}
	}
	l.credit[chosen] -= total
	e := l.members[chosen].e
	e.inflight.Add(1)
	return e
}

// underway are the requests that run, the one that ends next first.
type underway []*call

func (u underway) Len() int           { return len(u) }
func (u underway) Less(i, j int) bool { return u[i].ends.Before(u[j].ends) }
func (u underway) Swap(i, j int)      { u[i], u[j] = u[j], u[i] }
func (u *underway) Push(x any)        { *u = append(*u, x.(*call)) }
func (u *underway) Pop() any {
	k := (*u)[len(*u)-1]
	*u = (*u)[:len(*u)-1]
	return k
}

// simulator is one run under way.
type simulator struct {
	pods
	pick    func() *Endpoint
	index   map[*Endpoint]int
	rng     *rand.Rand
	begin   time.Time
	running underway
	out     outcome
}

func (p pods) run(t *testing.T) (out outcome) {
	t.Helper()
	synctest.Test(t, func(*testing.T) {
		s := &simulator{pods: p, rng: rand.New(rand.NewPCG(p.seed, 7)), begin: time.Now(), index: map[*Endpoint]int{}}
		s.pods.pods = slices.Clone(p.pods)
		s.out.shares = make([]int, len(p.pods))
		if s.weights == nil {
			s.weights = slices.Repeat([]float64{1}, len(p.pods))
		}
		policy := p.policy
		if policy == "nginx" {
			policy = "random"
		}
		pool := testPool(policy, s.weights...)
		pool.Start()
		defer pool.Stop()
		for i, e := range pool.endpoints {
			s.index[e] = i
		}
		s.pick = func() *Endpoint { return pool.Pick(nil) }
		if p.policy == "nginx" {
			s.pick = (&leastConn{members: pool.members, credit: make([]float64, len(p.pods))}).pick
		}
		s.loop(pool)
		slices.Sort(s.out.latencies)
		out = s.out
	})
	return out
}

func (s *simulator) loop(pool *Pool) {
	second := s.begin.Add(time.Second)
	for next := s.begin; next.Sub(s.begin) < s.warmup+s.time; {
		if len(s.running) > 0 && s.running[0].ends.Before(next) {
			k := heap.Pop(&s.running).(*call)
			time.Sleep(time.Until(k.ends))
			s.end(k)
			continue
		}
		time.Sleep(time.Until(next))
		s.arrive()
		next = next.Add(time.Duration(s.rng.ExpFloat64() / s.rate * 1e9))
		if s.each != nil && time.Now().After(second) {
			s.each(pool)
			second = second.Add(time.Second)
		}
	}
}

func (s *simulator) arrive() {
	e := s.pick()
	k := &call{came: time.Now(), e: e, pod: s.index[e], rif: e.Inflight()}
	d := &s.pods.pods[k.pod]
	switch {
	case d.fails != nil && s.rng.Float64() < d.fails(time.Since(s.begin)):
		k.failed, k.ends = true, time.Now().Add(200*time.Microsecond)
		heap.Push(&s.running, k)
	case d.running < max(1, d.servers):
		s.serve(d, k)
	default:
		d.queue = append(d.queue, k)
	}
}

func (s *simulator) serve(d *pod, k *call) {
	d.average()
	d.running++
	took := d.service.Seconds() * d.spread(s.rng)
	if d.slower != nil {
		took *= d.slower(time.Since(s.begin))
	}
	k.ends = time.Now().Add(time.Duration(took * 1e9))
	heap.Push(&s.running, k)
}

// average keeps the figures that the pod reports.
func (d *pod) average() {
	now := time.Now()
	if !d.at.IsZero() {
		w := math.Exp(-now.Sub(d.at).Seconds())
		d.busy = d.busy*w + float64(d.running)/float64(max(1, d.servers))*(1-w)
		d.rate *= w
	}
	d.at = now
}

func (s *simulator) end(k *call) {
	d := &s.pods.pods[k.pod]
	a := Attempt{Outcome: Success, Took: time.Since(k.came), Rif: k.rif}
	if k.failed {
		a.Outcome = Status
	} else {
		d.average()
		d.rate++
		if d.running--; len(d.queue) > 0 {
			s.serve(d, d.queue[0])
			d.queue = d.queue[1:]
		}
	}
	if s.reports {
		k.e.Report(FromAnswer, &load.Report{ApplicationUtilization: d.busy, RPS: d.rate}, time.Now())
	}
	k.e.End(a)
	if k.came.Sub(s.begin) < s.warmup {
		return
	}
	s.out.shares[k.pod]++
	if k.failed {
		s.out.failed++
	} else {
		s.out.latencies = append(s.out.latencies, a.Took)
	}
}

// fleet is n pods alike, and then others.
func fleet(n int, alike pod, others ...pod) []pod {
	return append(slices.Repeat([]pod{alike}, n), others...)
}
