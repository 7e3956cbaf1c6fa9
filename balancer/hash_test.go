package balancer

import (
	"fmt"
	"math"
	"slices"
	"testing"
)

// homes are where n subjects go while all endpoints are idle.
func homes(p *Pool, n int) []int {
	at := make([]int, n)
	for i, s := range subjects(n) {
		e := p.PickFor(s, nil)
		at[i] = indexOf(p, e)
		e.Done(Success, 0)
	}
	return at
}

func countOf(homes []int, n int) []int {
	counts := make([]int, n)
	for _, h := range homes {
		counts[h]++
	}
	return counts
}

func TestHashKeepsSubjectsAndFollowsWeights(t *testing.T) {
	const n = 20_000
	weights := []float64{1, 2, 0, 4, 1}
	p := testPool("hash", weights...)
	at := homes(p, n)
	if !slices.Equal(at, homes(p, n)) {
		t.Error("the same subjects went elsewhere")
	}
	if other := testPool("hash", weights...); !slices.Equal(at, homes(other, n)) {
		t.Error("another replica sends the same subjects elsewhere")
	}
	for i, c := range countOf(at, len(weights)) {
		// 40 to 160 points of exponential gaps: off by 1/sqrt(points), here at four times that.
		want := weights[i] / 8
		if off := math.Abs(float64(c)/n - want); off > 4*want/math.Sqrt(max(1, 40*weights[i])) {
			t.Errorf("endpoint %d of weight %v has %d of %d subjects, want about %.0f", i, weights[i], c, n, want*n)
		}
	}
}

// TestHashMovesOnlyWhatItMust: subjects of an endpoint that goes spread over the others, no other moves, and all are
// back when it is.
func TestHashMovesOnlyWhatItMust(t *testing.T) {
	const n = 5000
	p := testPool("hash", 1, 1, 1, 1, 1)
	before := homes(p, n)
	setDown(p, 2, true)
	without := homes(p, n)
	for i := range before {
		if before[i] != 2 && without[i] != before[i] {
			t.Fatalf("a subject of endpoint %d moved to %d when endpoint 2 went", before[i], without[i])
		}
	}
	for i, c := range countOf(without, 5) {
		if i != 2 && c <= countOf(before, 5)[i] {
			t.Errorf("endpoint %d got none of the subjects of the one that went", i)
		}
	}
	setDown(p, 2, false)
	if !slices.Equal(before, homes(p, n)) {
		t.Error("subjects are not back where they were")
	}
	p.endpoints[2].trust.tenths.Store(3) // of slow start
	p.refresh()
	for i, h := range homes(p, n) {
		if h != before[i] && before[i] != 2 {
			t.Fatal("a subject moved between others while an endpoint starts slowly")
		}
	}
}

// TestHashBoundsLoad: one subject alone has more requests than an endpoint may.
func TestHashBoundsLoad(t *testing.T) {
	for _, n := range []int{4, 200} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			p := testPool("hash", slices.Repeat([]float64{1}, n)...)
			subject := []byte("the one that everybody asks for")
			home := p.PickFor(subject, nil)
			home.Done(Success, 0)
			for i := range 10 * n {
				e := p.PickFor(subject, nil)
				if i == 0 && e != home {
					t.Error("the first request did not go to its endpoint")
				}
			}
			most := int64(0)
			for _, e := range p.endpoints {
				most = max(most, e.Inflight())
			}
			if n == 4 && most != 13 || home.Inflight() < 10 || most > 30 { // ceil(1.25 × 10); by a sample, more or less
				t.Errorf("at most %d in flight, at home %d, want about 125 %% of the mean of 10", most, home.Inflight())
			}
		})
	}
	p := testPool("hash", 1, 1, 1, 1)
	p.config.Hash.MaxLoad = 0
	p.selection.Store(newSelection(&p.config, p.members, &p.line.turn))
	home := p.PickFor([]byte("a"), nil)
	for range 100 {
		if p.PickFor([]byte("a"), nil) != home {
			t.Fatal("without a bound a request went elsewhere")
		}
	}
}

func TestHashRetriesElsewhereAndAlike(t *testing.T) {
	p := testPool("hash", 1, 1, 1, 1)
	second := map[*Endpoint]bool{}
	for range 20 {
		var tried []*Endpoint
		for range 4 {
			e := p.PickFor([]byte("user-1"), tried)
			if slices.Contains(tried, e) {
				t.Fatal("picked one again with others left")
			}
			e.Done(Connect, 0)
			if tried = append(tried, e); len(tried) == 2 {
				second[e] = true
			}
		}
		p.PickFor([]byte("user-1"), tried).Done(Connect, 0)
	}
	if len(second) != 1 {
		t.Errorf("the second attempt went to %d endpoints, want always the same", len(second))
	}
}
