// Virtual time, and one goroutine after the other: the race detector has nothing to find here, and takes minutes.

//go:build !race

package balancer

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"weir/config"
)

const ms = time.Millisecond

// TestOnePodFiveTimesSlower: four pods that serve one request at a time, one of them slower, at 70 % of their capacity
// together. Who counts connections alone sends the slow one as many as it has places for; the policies that look at
// latency halve the tail.
func TestOnePodFiveTimesSlower(t *testing.T) {
	for _, spread := range []struct {
		name string
		of   func(*rand.Rand) float64
	}{{"exponential", exponential}, {"lognormal 0.7", lognormal(0.7)}, {"constant", constant}} {
		t.Run(spread.name, func(t *testing.T) {
			fast := pod{service: 10 * ms, spread: spread.of}
			slow := pod{service: 50 * ms, spread: spread.of}
			run := func(policy string) outcome {
				p := pods{policy: policy, pods: fleet(3, fast, slow), rate: 0.7 * 320, warmup: 20 * time.Second, time: 400 * time.Second, seed: 1}
				o := p.run(t)
				t.Logf("%-14s %v, slow pod %.1f %%", policy, &o, 100*o.share(3))
				return o
			}
			peer := run("nginx")
			for _, policy := range []string{"peak_ewma", config.DefaultPolicy} {
				if o := run(policy); 2*o.quantile(0.99) > peer.quantile(0.99) {
					t.Errorf("%s: p99 %v, least_conn's is %v; want at most half", policy, o.quantile(0.99), peer.quantile(0.99))
				}
			}
			if o := run("least_request"); math.Abs(float64(o.quantile(0.99))/float64(peer.quantile(0.99))-1) > 0.2 {
				t.Errorf("least_request: p99 %v, least_conn's is %v; want them alike, as both count requests", o.quantile(0.99), peer.quantile(0.99))
			}
		})
	}
}

// TestAlikePodsLoseNothing: where counting is all there is to know, policies that know more must not be worse by
// much, whatever the load and however many requests a pod serves at one time.
func TestAlikePodsLoseNothing(t *testing.T) {
	for _, test := range []struct {
		name    string
		servers int
		load    float64
	}{{"one at a time, light", 1, 0.2}, {"one at a time, busy", 1, 0.7}, {"eight at a time, nearly full", 8, 0.9}} {
		t.Run(test.name, func(t *testing.T) {
			alike := pod{service: 10 * ms, spread: lognormal(0.7), servers: test.servers}
			run := func(policy string) outcome {
				rate := 400 * float64(test.servers) * test.load
				p := pods{policy: policy, pods: fleet(4, alike), rate: rate, warmup: 20 * time.Second, time: time.Duration(60_000 / rate * 1e9), seed: 2}
				o := p.run(t)
				t.Logf("%-14s %v, shares %v", policy, &o, o.shares)
				return o
			}
			least := run("least_request")
			for _, policy := range []string{"peak_ewma", "prequal"} {
				o := run(policy)
				if r := float64(o.quantile(0.99)) / float64(least.quantile(0.99)); r > 1.2 {
					t.Errorf("%s: p99 is %.2f of least_request's, want about the same", policy, r)
				}
				for i := range o.shares {
					if x := o.share(i); x < 0.15 || x > 0.35 {
						t.Errorf("%s: pod %d has %.0f %%, want about a quarter", policy, i, 100*x)
					}
				}
			}
		})
	}
}

// TestANoisyNeighbourThatComesAndGoes makes one pod five times slower every other ten seconds. It loses its share while
// it is slow and gets it back.
func TestANoisyNeighbourThatComesAndGoes(t *testing.T) {
	calm := pod{service: 10 * ms, spread: lognormal(0.7)}
	noisy := calm
	slow := func(d time.Duration) bool { return int(d.Seconds())/10%2 == 1 }
	noisy.slower = func(d time.Duration) float64 {
		if slow(d) {
			return 5
		}
		return 1
	}
	for _, policy := range []string{"nginx", "peak_ewma", "prequal"} {
		var last, during, after uint64
		begin := time.Time{}
		p := pods{policy: policy, pods: fleet(3, calm, noisy), rate: 224, warmup: 20 * time.Second, time: 400 * time.Second, seed: 3}
		p.each = func(pool *Pool) {
			if begin.IsZero() {
				begin = time.Now().Add(-time.Second)
			}
			n := pool.endpoints[3].Requests()
			if since := time.Since(begin); int(since.Seconds())%10 >= 5 { // five seconds to find out
				if slow(since) {
					during += n - last
				} else {
					after += n - last
				}
			}
			last = n
		}
		o := p.run(t)
		t.Logf("%-10s %v, %d requests in the second half of slow phases, %d in that of others", policy, &o, during, after)
		if policy != "nginx" && (during*4 > after || after < 2000) {
			t.Errorf("%s: %d requests while it is slow and %d while it is not, want few, and half of its share at least", policy, during, after)
		}
	}
}

// TestAFailFastPodAttractsNothing: what fails at once has the fewest requests in flight and the least latency. It must
// not become a sink, without any outlier detection, and gets its share again when it is well.
func TestAFailFastPodAttractsNothing(t *testing.T) {
	well := pod{service: 10 * ms, spread: exponential}
	for name, part := range map[string]float64{"all fail": 1, "half fail": 0.5} {
		t.Run(name, func(t *testing.T) {
			for _, test := range []struct {
				policy string
				most   float64 // of all requests that fail
			}{{"peak_ewma", 0.05}, {"prequal", 0.03}} {
				sick := well
				sick.fails = func(d time.Duration) float64 {
					if d < 120*time.Second {
						return part
					}
					return 0
				}
				during := pods{policy: test.policy, pods: fleet(3, well, sick), rate: 200, warmup: 10 * time.Second, time: 109 * time.Second, seed: 4}
				o := during.run(t)
				after := during
				after.warmup, after.time = 160*time.Second, 60*time.Second
				back := after.run(t)
				failed := float64(o.failed) / float64(o.failed+len(o.latencies))
				t.Logf("%-10s %.2f %% of all fail; share of the pod %.1f %% while it fails, %.1f %% after", test.policy, 100*failed, 100*o.share(3), 100*back.share(3))
				if failed > test.most || back.share(3) < 0.15 {
					t.Errorf("%s: %.1f %% failed, then a share of %.1f %%; want less than %.0f %%, and about a quarter", test.policy, 100*failed, 100*back.share(3), 100*test.most)
				}
			}
			peer := pods{policy: "nginx", pods: fleet(3, well, pod{service: 10 * ms, spread: exponential, fails: func(time.Duration) float64 { return part }}), rate: 200, warmup: 10 * time.Second, time: 60 * time.Second, seed: 4}
			o := peer.run(t)
			if o.share(3) < 0.28 {
				t.Errorf("least_conn sends it %.1f %%; want a sink, else this test shows nothing", 100*o.share(3))
			}
		})
	}
}

// TestWeightsHoldUnderLatencyAwarePolicies: of pods alike, shares follow the weights, in a light load and in a heavy one.
func TestWeightsHoldUnderLatencyAwarePolicies(t *testing.T) {
	alike := pod{service: 10 * ms, spread: lognormal(0.5), servers: 64}
	for _, policy := range []string{"peak_ewma", "prequal"} {
		for name, rate := range map[string]float64{"light": 20, "heavy": 4000} {
			p := pods{policy: policy, pods: fleet(4, alike), weights: []float64{1, 2, 3, 4}, rate: rate, warmup: 20 * time.Second, time: time.Duration(30_000 / rate * 1e9), seed: 5}
			o := p.run(t)
			t.Logf("%s, %s: %v", policy, name, o.shares)
			for i := range o.shares {
				if policy == "peak_ewma" { // one slow answer counts for long
					if i == 3 && o.shares[3] < o.shares[0] {
						t.Errorf("%s, %s load: weight 4 has less than weight 1: %v", policy, name, o.shares)
					}
				} else if x, want := o.share(i), float64(i+1)/10; x < want*0.6 || x > want*1.7 { // chance has part in what seems faster
					t.Errorf("%s, %s load: weight %d has %.1f %%, want about %.0f %%", policy, name, i+1, 100*x, 100*want)
				}
			}
		}
	}
}

// TestReportsOfPodsSettle: pods that report their utilization and rate, one of them four times slower. Its share settles
// where their utilizations are alike, and stays there.
func TestReportsOfPodsSettle(t *testing.T) {
	fast := pod{service: 20 * ms, spread: exponential, servers: 8}
	slow := pod{service: 80 * ms, spread: exponential, servers: 8}
	var weights []float64
	p := pods{policy: "utilization", pods: fleet(3, fast, slow), rate: 0.6 * 1300, warmup: 60 * time.Second, time: 120 * time.Second, seed: 6, reports: true}
	p.each = func(pool *Pool) { weights = append(weights, pool.endpoints[3].EffectiveWeight()) }
	o := p.run(t)
	even := p
	even.policy, even.each = "round_robin", nil
	rr := even.run(t)
	t.Logf("utilization %v, slow pod %.1f %%; round_robin %v", &o, 100*o.share(3), &rr)
	if x := o.share(3); x < 0.06 || x > 0.11 { // 100 of 1300
		t.Errorf("the slow pod has %.1f %%, want about 7.7 %%", 100*x)
	}
	if o.quantile(0.99) > rr.quantile(0.99)/4 {
		t.Errorf("p99 %v, round robin's is %v; want far less: it overloads the slow pod", o.quantile(0.99), rr.quantile(0.99))
	}
	settled := weights[60:]
	if lo, hi := slices.Min(settled), slices.Max(settled); hi/lo > 1.6 {
		t.Errorf("the slow pod's weight was %.2f to %.2f, want it to stay where it settled", lo, hi)
	}
}

// TestPrequalAgainstWeightedRoundRobin is the direction and rough size of the Prequal paper's result: a hundred pods with
// what runs beside them, which takes half to nine tenths of the machine of some for seconds. Weighted round robin by
// reported utilization and rate, as YouTube had it, sees that too late; Prequal keeps the tail.
func TestPrequalAgainstWeightedRoundRobin(t *testing.T) {
	rng := rand.New(rand.NewPCG(8, 8))
	var all []pod
	for range 100 {
		period, phase, part := 4+8*rng.Float64(), 20*rng.Float64(), 0.2+0.2*rng.Float64()
		depth := 2 + 3*rng.Float64()
		all = append(all, pod{service: 20 * ms, spread: lognormal(0.7), servers: 4, slower: func(d time.Duration) float64 {
			if _, x := math.Modf((d.Seconds() + phase) / period); x < part {
				return depth
			}
			return 1
		}})
	}
	// Of the capacity of 100 × 4 / 20 ms about a fifth is lost to the neighbours.
	for _, busy := range []float64{0.55, 0.7} {
		run := func(policy string) outcome {
			p := pods{policy: policy, pods: all, rate: 20_000 * busy, warmup: 25 * time.Second, time: 8 * time.Second, seed: 9, reports: true}
			o := p.run(t)
			t.Logf("load %.0f %%, %-12s %v", 100*busy, policy, &o)
			return o
		}
		wrr, prequal := run("utilization"), run("prequal")
		if prequal.quantile(0.99)*2 > wrr.quantile(0.99) || prequal.quantile(0.999)*2 > wrr.quantile(0.999) {
			t.Errorf("load %.0f %%: prequal %v, weighted round robin %v; want less than half of p99 and p99.9", 100*busy, &prequal, &wrr)
		}
	}
}
