package balancer

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"
)

// variants returns one variant for each weight: pools a, b, c … of one endpoint.
func variants(weights ...float64) []Variant {
	var out []Variant
	for i, w := range weights {
		p := NewPool(poolConfig(string(rune('a'+i)), "round_robin", 1), nil, PoolOptions{})
		out = append(out, Variant{Pool: p, Weight: w})
	}
	return out
}

// reweighted returns the same pools with other weights.
func reweighted(v []Variant, weights ...float64) []Variant {
	var out []Variant
	for i, w := range weights {
		out = append(out, Variant{Pool: v[i].Pool, Weight: w})
	}
	return out
}

var splitWeights = [][]float64{
	{90, 10},
	{99.5, 0.5},
	{10, 90},
	{60, 30, 10},
	{1, 0, 3},
	{0, 5, 0, 5, 0},
	{0.9, 0.1},
}

func TestByChanceFollowsTheWeights(t *testing.T) {
	for i, weights := range splitWeights {
		t.Run(fmt.Sprint(weights), func(t *testing.T) {
			r := rand.New(rand.NewPCG(uint64(i), 1))
			s := NewSplit("", variants(weights...), nil)
			counts := make([]int, len(weights))
			for range 100_000 {
				chosen, intended := s.ByChance(r.Uint64())
				if chosen != intended {
					t.Fatal("spilled with every pool usable")
				}
				counts[chosen]++
			}
			checkShares(t, counts, weights)
		})
	}
}

func TestByChanceIsExactAtTheBounds(t *testing.T) {
	for _, test := range []struct {
		weights []float64
		u       uint64
		want    int
	}{
		{[]float64{1, 1}, 0, 0},
		{[]float64{1, 1}, 1<<63 - 1, 0},
		{[]float64{1, 1}, 1<<63 + 1, 1},
		{[]float64{1, 1}, math.MaxUint64, 1},
		{[]float64{0, 1}, 0, 1},
		{[]float64{1, 0}, math.MaxUint64, 0},
		{[]float64{0, 1, 0}, math.MaxUint64, 1},
		{[]float64{1, 1e-9}, math.MaxUint64, 1},
		{[]float64{1, 1e-9}, math.MaxUint64 - 1<<36, 0},
		{[]float64{math.MaxFloat64, math.MaxFloat64}, 1 << 62, 0},
		{[]float64{math.MaxFloat64, math.MaxFloat64}, 3 << 62, 1},
	} {
		s := NewSplit("", variants(test.weights...), nil)
		if got, _ := s.ByChance(test.u); got != test.want {
			t.Errorf("weights %v: ByChance(%#x) = %d, want %d", test.weights, test.u, got, test.want)
		}
	}
}

func TestEveryNumberChooses(t *testing.T) {
	r := rand.New(rand.NewPCG(11, 12))
	v := variants(make([]float64, 7)...)
	for range 1000 {
		s := NewSplit("", reweighted(v, randomWeights(r, 7)...), nil)
		if chosen, _ := s.ByChance(math.MaxUint64); chosen < 0 {
			t.Fatalf("weights %v: the greatest number chooses nobody", s.Variants())
		}
	}
}

func TestBySubjectFollowsTheWeights(t *testing.T) {
	for _, weights := range splitWeights {
		t.Run(fmt.Sprint(weights), func(t *testing.T) {
			s := NewSplit("predict", variants(weights...), nil)
			counts := make([]int, len(weights))
			for _, subject := range subjects(50_000) {
				chosen, intended := s.BySubject(subject)
				if chosen != intended {
					t.Fatal("spilled with every pool usable")
				}
				counts[chosen]++
			}
			checkShares(t, counts, weights)
		})
	}
}

// subjects returns n users, named as users are.
func subjects(n int) [][]byte {
	out := make([][]byte, n)
	for i := range out {
		out[i] = strconv.AppendInt([]byte("user-"), int64(i), 10)
	}
	return out
}

func TestTwoRoutesAssignIndependently(t *testing.T) {
	weights := []float64{50, 30, 20}
	v := variants(weights...)
	one, two := NewSplit("predict", v, nil), NewSplit("rank", v, nil)
	const users = 20_000
	var table [3][3]int
	for _, subject := range subjects(users) {
		i, _ := one.BySubject(subject)
		j, _ := two.BySubject(subject)
		table[i][j]++
	}
	var rows, columns [3]int
	for i := range table {
		for j, n := range table[i] {
			rows[i] += n
			columns[j] += n
		}
	}
	chi2 := 0.0
	for i := range table {
		for j, n := range table[i] {
			expected := float64(rows[i]) * float64(columns[j]) / users
			chi2 += (float64(n) - expected) * (float64(n) - expected) / expected
		}
	}
	if limit := chiSquareLimit(4); chi2 > limit {
		t.Errorf("assignments of two routes depend on each other: chi-square %.1f, limit %.1f, table %v", chi2, limit, table)
	}
}

func TestSpilloverGoesToTheOthersByWeight(t *testing.T) {
	weights := []float64{50, 30, 15, 5, 0}
	v := variants(weights...)
	s := NewSplit("predict", v, nil)
	setDown(v[0].Pool, 0, true)
	r := rand.New(rand.NewPCG(5, 6))
	chance, subject := make([]int, 5), make([]int, 5)
	users := subjects(40_000)
	for _, user := range users {
		chosen, intended := s.ByChance(r.Uint64())
		if intended != 0 && chosen != intended {
			t.Fatalf("intended %d is usable, chosen %d", intended, chosen)
		}
		if intended == 0 {
			chance[chosen]++
		}
		chosen, intended = s.BySubject(user)
		if intended != 0 && chosen != intended {
			t.Fatalf("intended %d is usable, chosen %d for a subject", intended, chosen)
		}
		if intended == 0 {
			subject[chosen]++
		}
	}
	rest := []float64{0, 30, 15, 5, 0}
	checkShares(t, chance, rest)
	// Whole buckets spill, about 5,000: that is coarser than single subjects are.
	spilled := subject[1] + subject[2] + subject[3]
	for i, n := range subject {
		if share := float64(n) / float64(spilled); math.Abs(share-rest[i]/50) > 0.03 {
			t.Errorf("variant %d took %.3f of the spilled subjects, want %.3f", i, share, rest[i]/50)
		}
	}
}

func TestSpilledSubjectsStayAndComeBack(t *testing.T) {
	v := variants(40, 30, 20, 10)
	s := NewSplit("predict", v, nil)
	users := subjects(5_000)
	choices := func() []int {
		out := make([]int, len(users))
		for i, user := range users {
			out[i], _ = s.BySubject(user)
		}
		return out
	}
	before := choices()
	setDown(v[0].Pool, 0, true)
	one := choices()
	for i := range users {
		if before[i] != 0 && one[i] != before[i] {
			t.Fatalf("user %d moved from %d to %d when 0 went down", i, before[i], one[i])
		}
	}
	setDown(v[1].Pool, 0, true)
	for i, now := range choices() {
		if one[i] != 1 && now != one[i] {
			t.Fatalf("user %d moved from %d to %d when 1 went down", i, one[i], now)
		}
	}
	setDown(v[0].Pool, 0, false)
	setDown(v[1].Pool, 0, false)
	for i, now := range choices() {
		if now != before[i] {
			t.Fatalf("user %d is with %d after recovery, was with %d", i, now, before[i])
		}
	}
}

func TestNoUsableVariant(t *testing.T) {
	v := variants(1, 1, 0)
	s := NewSplit("predict", v, nil)
	setDown(v[0].Pool, 0, true)
	setDown(v[1].Pool, 0, true)
	for _, user := range subjects(100) {
		if chosen, intended := s.BySubject(user); chosen != -1 || intended < 0 || intended > 1 {
			t.Fatalf("BySubject = %d, %d with only weight 0 usable; want -1 and who was intended", chosen, intended)
		}
	}
	if chosen, intended := s.ByChance(1); chosen != -1 || intended != 0 {
		t.Errorf("ByChance = %d, %d; want -1, 0", chosen, intended)
	}
	none := NewSplit("predict", reweighted(v, 0, 0, 0), nil)
	if chosen, intended := none.ByChance(1); chosen != -1 || intended != -1 {
		t.Errorf("ByChance without a weight = %d, %d; want -1, -1", chosen, intended)
	}
	if chosen, intended := none.BySubject([]byte("u")); chosen != -1 || intended != -1 {
		t.Errorf("BySubject without a weight = %d, %d; want -1, -1", chosen, intended)
	}
}

func TestWithoutASaltSubjectsAreChosenByHash(t *testing.T) {
	weights := []float64{70, 30}
	s := NewSplit("", variants(weights...), nil)
	counts := make([]int, 2)
	for _, user := range subjects(20_000) {
		first, _ := s.BySubject(user)
		again, _ := s.BySubject(user)
		if first != again {
			t.Fatal("the same subject got two variants")
		}
		counts[first]++
	}
	checkShares(t, counts, weights)
}

func TestADrainMovesItsSubjectsAndBringsThemBack(t *testing.T) {
	v := variants(40, 30, 20, 10)
	s := NewSplit("predict", v, nil)
	users := subjects(5_000)
	choices := func(s *Split) (chosen, intended []int) {
		for _, user := range users {
			c, i := s.BySubject(user)
			chosen, intended = append(chosen, c), append(intended, i)
		}
		return chosen, intended
	}
	before, _ := choices(s)
	for name, drain := range map[string]func(p *Pool, draining bool){
		"pool":           (*Pool).Drain,
		"every endpoint": func(p *Pool, draining bool) { p.DrainEndpoint(p.endpoints[0].Address, draining) },
	} {
		drain(v[0].Pool, true)
		during, intended := choices(s)
		reloaded := slices.Clone(v)
		reloaded[0].Pool = NewPool(v[0].Pool.config, v[0].Pool, PoolOptions{})
		later, _ := choices(NewSplit("predict", reloaded, s))
		for i := range users {
			if during[i] == 0 || before[i] != 0 && during[i] != before[i] || intended[i] != before[i] {
				t.Fatalf("%s drains: user %d, who was with %d, is with %d, intended %d", name, i, before[i], during[i], intended[i])
			}
			if later[i] != during[i] {
				t.Fatalf("%s drains: a reload moved user %d from %d to %d", name, i, during[i], later[i])
			}
		}
		for range 100 {
			if chosen, _ := s.ByChance(rand.Uint64()); chosen == 0 {
				t.Fatalf("%s drains: chance chose it", name)
			}
		}
		drain(v[0].Pool, false)
		if after, _ := choices(s); !slices.Equal(after, before) {
			t.Fatalf("%s drained: not all users came back", name)
		}
	}
}
