package balancer

import (
	"slices"
	"strings"
	"sync"
	"testing"

	"weir/config"
)

// letters picks n times and names endpoints a, b, c …
func letters(p *Pool, n int) string {
	var b strings.Builder
	for range n {
		e := p.Pick(nil)
		b.WriteByte(byte('a' + indexOf(p, e)))
		e.Done(Success, 0)
	}
	return b.String()
}

func TestRoundRobinIsSmooth(t *testing.T) {
	for _, test := range []struct {
		weights []float64
		want    string // two rounds
	}{
		{[]float64{1}, "aa"},
		{[]float64{1, 1, 1}, "abcabc"},
		{[]float64{5, 1, 1}, "aabacaaaabacaa"},
		{[]float64{2, 1}, "abaaba"},
		{[]float64{200, 100}, "abaaba"},
		{[]float64{0.5, 1.5}, "babbbabb"},
		{[]float64{0.02, 0.01}, "abaaba"},
		{[]float64{3, 0, 3}, "acac"},
		{[]float64{4, 2, 1}, "abacabaabacaba"},
	} {
		p := testPool("round_robin", test.weights...)
		if got := letters(p, len(test.want)); got != test.want {
			t.Errorf("weights %v: %s, want %s", test.weights, got, test.want)
		}
	}
}

func TestRoundRobinRoundIsExactForWeightsOfTwoDecimals(t *testing.T) {
	p := testPool("round_robin", 99.99, 0.01)
	counts := shares(p, 10_000)
	if !slices.Equal(counts, []int{9999, 1}) {
		t.Errorf("a round of 99.99 : 0.01 gave %v, want exactly [9999 1]", counts)
	}
}

func TestRoundRobinRoundsOddWeightsToAFineSequence(t *testing.T) {
	weights := []float64{3.14159265, 2.71828182, 1.41421356, 1e-9}
	p := testPool("round_robin", weights...)
	r := p.selection.Load().picker.(*roundRobin)
	if len(r.sequence) > maxSequence {
		t.Fatalf("the sequence has %d places, want at most %d", len(r.sequence), maxSequence)
	}
	counts := shares(p, len(r.sequence))
	sum := weights[0] + weights[1] + weights[2] + weights[3]
	for i, c := range counts {
		exact := weights[i] / sum * float64(len(r.sequence))
		if diff := float64(c) - exact; diff > 1 || diff < -1 {
			t.Errorf("weight %v has %d of %d places, exact is %.2f", weights[i], c, len(r.sequence), exact)
		}
	}
}

func TestRoundRobinGoesOnWhenTheSetChanges(t *testing.T) {
	p := testPool("round_robin", 1, 1, 1, 1)
	got := letters(p, 2)
	setDown(p, 0, true)
	setDown(p, 0, false)
	got += letters(p, 1)
	next := NewPool(p.Config(), p, PoolOptions{})
	got += letters(next, 2)
	if got != "abcda" {
		t.Errorf("picks over a change of health and a reload: %s, want abcda: nobody is first again", got)
	}
}

func TestLeastRequestFillsByWeight(t *testing.T) {
	p := testPool("least_request", 1, 2, 4)
	for range 700 {
		p.Pick(nil)
	}
	for i, want := range []int64{100, 200, 400} {
		if got := p.endpoints[i].Inflight(); got < want-2 || got > want+2 {
			t.Errorf("endpoint %d of weight %v has %d in flight, want about %d", i, p.members[i].weight, got, want)
		}
	}
}

func TestLeastRequestAvoidsTheBusy(t *testing.T) {
	p := testPool("least_request", 1, 1, 1)
	stuck := p.Pick(nil)
	for range 1000 {
		e := p.Pick(nil)
		if e == stuck {
			t.Fatal("the endpoint with a request in flight was picked while two were idle")
		}
		e.Done(Success, 0)
	}
}

func TestLeastRequestUnderSkew(t *testing.T) {
	// The first endpoint takes 10 steps for a request, the others 1; 6 requests are always
	// under way. A fair policy gives the slow one about a tenth of what another gets.
	p := testPool("least_request", 1, 1, 1)
	type job struct {
		e    *Endpoint
		left int
	}
	var jobs []job
	var done [3]int
	for range 20_000 {
		for len(jobs) < 6 {
			e := p.Pick(nil)
			left := 1
			if indexOf(p, e) == 0 {
				left = 10
			}
			jobs = append(jobs, job{e, left})
		}
		running := jobs[:0]
		for _, j := range jobs {
			if j.left--; j.left > 0 {
				running = append(running, j)
				continue
			}
			j.e.Done(Success, 0)
			done[indexOf(p, j.e)]++
		}
		jobs = running
	}
	if ratio := float64(done[0]) / float64(done[1]); ratio > 0.15 || ratio < 0.05 {
		t.Errorf("ended %v: the slow endpoint got %.2f of another's, want about 0.1", done, ratio)
	}
	if ratio := float64(done[1]) / float64(done[2]); ratio > 1.1 || ratio < 0.9 {
		t.Errorf("ended %v: the two fast endpoints differ by %.2f", done, ratio)
	}
}

func TestIdleEndpointsShareByWeight(t *testing.T) {
	weights := []float64{1, 3, 0, 6}
	for _, policy := range []string{"least_request", "two_choices", "random"} {
		t.Run(policy, func(t *testing.T) {
			checkShares(t, shares(testPool(policy, weights...), 20_000), weights)
		})
	}
}

func TestLargePoolsAreFilledEvenly(t *testing.T) {
	const endpoints, each = 256, 40
	for policy, spread := range map[string]int64{"least_request": 8, "two_choices": 16} {
		t.Run(policy, func(t *testing.T) {
			p := testPool(policy, slices.Repeat([]float64{1}, endpoints)...)
			for range endpoints * each {
				p.Pick(nil)
			}
			for i, e := range p.endpoints {
				if n := e.Inflight(); n < each-spread || n > each+spread {
					t.Errorf("endpoint %d has %d in flight, want %d ± %d", i, n, each, spread)
				}
			}
		})
	}
}

func TestTwoChoicesTakesTheLessBusyOfTwo(t *testing.T) {
	p := testPool("two_choices", 1, 1)
	for range 100 {
		p.Pick(nil)
	}
	a, b := p.endpoints[0].Inflight(), p.endpoints[1].Inflight()
	if a-b > 1 || b-a > 1 {
		t.Errorf("%d and %d in flight, want them alike: both are always looked at", a, b)
	}
}

func TestTriedEndpointsAreLeftOutWhileThereAreOthers(t *testing.T) {
	for _, policy := range config.Policies() {
		t.Run(policy, func(t *testing.T) {
			p := testPool(policy, 1, 50, 1, 0)
			for range 200 {
				var tried []*Endpoint
				for range 3 {
					e := p.Pick(tried)
					if slices.Contains(tried, e) {
						t.Fatalf("picked endpoint %d again, with others left", indexOf(p, e))
					}
					e.Done(Connect, 0)
					tried = append(tried, e)
				}
				e := p.Pick(tried)
				if !slices.Contains(tried, e) {
					t.Fatalf("all usable ones were tried: picked %v, want one of them again", e)
				}
				e.Done(Connect, 0)
			}
		})
	}
}

func TestRetriesSpreadByPolicy(t *testing.T) {
	weights := []float64{9, 1, 3}
	for _, policy := range []string{"least_request", "two_choices", "random"} {
		t.Run(policy, func(t *testing.T) {
			p := testPool(policy, weights...)
			tried := []*Endpoint{p.endpoints[0]}
			counts := make([]int, 3)
			for range 20_000 {
				e := p.Pick(tried)
				e.Done(Success, 0)
				counts[indexOf(p, e)]++
			}
			checkShares(t, counts, []float64{0, 1, 3})
		})
	}
}

// TestRetriesInALargePool: what was tried is left out there as well, also when nearly all was.
func TestRetriesInALargePool(t *testing.T) {
	const endpoints = 200
	for _, policy := range config.Policies() {
		t.Run(policy, func(t *testing.T) {
			p := testPool(policy, slices.Repeat([]float64{1}, endpoints)...)
			var tried []*Endpoint
			for range endpoints {
				e := p.Pick(tried)
				if slices.Contains(tried, e) {
					t.Fatalf("after %d: picked endpoint %d again, with others left", len(tried), indexOf(p, e))
				}
				tried = append(tried, e)
			}
		})
	}
}

func TestEveryPolicyKeepsCountUnderConcurrency(t *testing.T) {
	for _, policy := range config.Policies() {
		t.Run(policy, func(t *testing.T) {
			p := testPool(policy, 1, 2, 3)
			const workers, each = 4, 2_000
			var running sync.WaitGroup
			for range workers {
				running.Go(func() {
					for range each {
						e := p.Pick(nil)
						e.Done(Success, 1)
					}
				})
			}
			running.Go(func() {
				for i := range 200 {
					setDown(p, 1, i%2 == 0)
				}
				setDown(p, 1, false)
			})
			running.Wait()
			var ended uint64
			for i, e := range p.endpoints {
				if n := e.Inflight(); n != 0 {
					t.Errorf("endpoint %d has %d in flight after all ended", i, n)
				}
				ended += e.Requests()
			}
			if ended != workers*each {
				t.Errorf("%d ended, want %d", ended, workers*each)
			}
		})
	}
}
