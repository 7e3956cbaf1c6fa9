package balancer

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/cespare/xxhash/v2"
)

// assignment names the pool of every bucket.
func assignment(s *Split) []string {
	out := make([]string, Buckets)
	for b := range out {
		out[b] = s.variants[s.columns[s.table.ownerOf(b)]].Pool.Name()
	}
	return out
}

// moved counts the buckets that are assigned differently.
func moved(a, b []string) int {
	n := 0
	for i := range a {
		if a[i] != b[i] {
			n++
		}
	}
	return n
}

// counted returns the buckets of each pool.
func counted(a []string) map[string]int {
	out := map[string]int{}
	for _, name := range a {
		out[name]++
	}
	return out
}

// fewest is half the sum of the changes of the counts: what has to move.
func fewest(a, b []string) int {
	before, after := counted(a), counted(b)
	n := 0
	for name := range after {
		n += max(0, after[name]-before[name])
	}
	return n
}

func TestBucketIsTheSaltedHash(t *testing.T) {
	s := NewSplit("predict", variants(1, 1), nil)
	for _, subject := range []string{"", "u", "user-1", "a subject that is longer than one block of 32 bytes is"} {
		want := int(xxhash.Sum64String("predict\x1f"+subject) % 10_000)
		if got := s.Bucket([]byte(subject)); got != want {
			t.Errorf("Bucket(%q) = %d, want %d", subject, got, want)
		}
	}
}

func TestEveryPositiveWeightHasItsBuckets(t *testing.T) {
	for _, test := range []struct {
		weights []float64
		want    map[string]int
	}{
		{[]float64{90, 10}, map[string]int{"a": 9000, "b": 1000}},
		{[]float64{99.99, 0.01}, map[string]int{"a": 9999, "b": 1}},
		{[]float64{1e6, 1e-6}, map[string]int{"a": 9999, "b": 1}},
		{[]float64{0, 1}, map[string]int{"b": 10_000}},
		{[]float64{1, 1, 1}, map[string]int{"a": 3334, "b": 3333, "c": 3333}},
	} {
		got := counted(assignment(NewSplit("s", variants(test.weights...), nil)))
		for name, n := range got {
			if test.want[name] != n {
				t.Errorf("weights %v: %v buckets, want %v", test.weights, got, test.want)
			}
		}
	}
}

func TestChangesMoveTheFewestBucketsAndUndoExactly(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 8))
	for range 20 {
		n := 2 + r.IntN(4)
		v := variants(make([]float64, n)...)
		s := NewSplit("s", reweighted(v, randomWeights(r, n)...), nil)
		for range 4 {
			next := NewSplit("s", reweighted(v, randomWeights(r, n)...), s)
			a, b := assignment(s), assignment(next)
			if got, want := moved(a, b), fewest(a, b); got != want {
				t.Fatalf("%d buckets moved, %d had to", got, want)
			}
			undone := NewSplit("s", s.variants, next)
			if n := moved(a, assignment(undone)); n != 0 {
				t.Fatalf("after a change and back, %d buckets are elsewhere", n)
			}
			redone := NewSplit("s", next.variants, undone)
			if n := moved(b, assignment(redone)); n != 0 {
				t.Fatalf("after a change, back, and the change again, %d buckets are elsewhere", n)
			}
			s = redone
		}
	}
}

func TestRampsAreNested(t *testing.T) {
	for _, rest := range [][]float64{{1}, {3, 1}, {5, 0, 2}} {
		t.Run(fmt.Sprint(len(rest)+1, " variants"), func(t *testing.T) {
			v := variants(make([]float64, len(rest)+1)...)
			canary := v[len(rest)].Pool.Name()
			at := func(percent float64, prev *Split) *Split {
				sum := 0.0
				for _, w := range rest {
					sum += w
				}
				var weights []float64
				for _, w := range rest {
					weights = append(weights, w/sum*(100-percent))
				}
				return NewSplit("s", reweighted(v, append(weights, percent)...), prev)
			}
			steps := []float64{0, 0.01, 1, 10, 30, 50, 70, 100}
			var tables [][]string
			s := at(steps[0], nil)
			for i, percent := range steps {
				s = at(percent, s)
				tables = append(tables, assignment(s))
				if want := int(percent * 100); counted(tables[i])[canary] != want {
					t.Fatalf("at %v %%: %d buckets, want %d", percent, counted(tables[i])[canary], want)
				}
				for b := range Buckets {
					if i > 0 && tables[i-1][b] == canary && tables[i][b] != canary {
						t.Fatalf("bucket %d is with the canary at %v %% and not at %v %%", b, steps[i-1], percent)
					}
				}
			}
			for i := len(steps) - 1; i >= 0; i-- {
				s = at(steps[i], s)
				if n := moved(tables[i], assignment(s)); n != 0 {
					t.Errorf("down again at %v %%: %d buckets are elsewhere than on the way up", steps[i], n)
				}
			}
			for i := range steps {
				s = at(steps[i], s)
				if n := moved(tables[i], assignment(s)); n != 0 {
					t.Errorf("up again at %v %%: %d buckets are elsewhere than the first time", steps[i], n)
				}
			}
			s = at(30, at(70, at(10, s)))
			if n := moved(tables[4], assignment(s)); n != 0 {
				t.Errorf("10, 70, 30: %d buckets are elsewhere than at the first 30 %%", n)
			}
		})
	}
}

func TestUsersOfARampAreNested(t *testing.T) {
	v := variants(90, 10)
	at10 := NewSplit("predict", v, nil)
	at30 := NewSplit("predict", reweighted(v, 70, 30), at10)
	at50 := NewSplit("predict", reweighted(v, 50, 50), at30)
	moved := 0
	for _, user := range subjects(20_000) {
		a, _ := at10.BySubject(user)
		b, _ := at30.BySubject(user)
		c, _ := at50.BySubject(user)
		if a > b || b > c {
			t.Fatalf("%s: variant %d at 10 %%, %d at 30 %%, %d at 50 %%", user, a, b, c)
		}
		moved += b - a
	}
	if share := float64(moved) / 20_000; math.Abs(share-0.2) > 0.01 {
		t.Errorf("%.3f of the users moved from 10 to 30 %%, want 0.2", share)
	}
}

func TestTwoVariantsDependOnTheWeightsAlone(t *testing.T) {
	r := rand.New(rand.NewPCG(9, 10))
	v := variants(1, 1)
	s := NewSplit("s", v, nil)
	for range 40 {
		weights := randomWeights(r, 2)
		s = NewSplit("s", reweighted(v, weights...), s)
		fresh := NewSplit("s", reweighted(v, weights...), nil)
		if n := moved(assignment(s), assignment(fresh)); n != 0 {
			t.Fatalf("weights %v: a replica that started now differs in %d buckets", weights, n)
		}
	}
}

func TestTheOrderInTheFileIsNoMatter(t *testing.T) {
	v := variants(50, 30, 20)
	turned := []Variant{v[2], v[0], v[1]}
	one, other := NewSplit("s", v, nil), NewSplit("s", turned, nil)
	if n := moved(assignment(one), assignment(other)); n != 0 {
		t.Errorf("another order: %d buckets are elsewhere", n)
	}
	reloaded := NewSplit("s", turned, one)
	if n := moved(assignment(one), assignment(reloaded)); n != 0 {
		t.Errorf("a reload in another order moved %d buckets", n)
	}
	user := []byte("user-1")
	i, _ := one.BySubject(user)
	j, _ := reloaded.BySubject(user)
	if v[i].Pool != turned[j].Pool {
		t.Error("the index is not that of the variant in its own split")
	}
}

func TestUnchangedWeightsShareTheTable(t *testing.T) {
	v := variants(50, 30, 20)
	one := NewSplit("s", v, nil)
	if NewSplit("s", reweighted(v, 5, 3, 2), one).table != one.table {
		t.Error("the same ratio made another table")
	}
}

func TestVariantsComeAndGo(t *testing.T) {
	v := variants(40, 30, 20, 10)
	s := NewSplit("s", v[:3], nil)
	before := assignment(s)

	more := NewSplit("s", v, s)
	a := assignment(more)
	if got, want := moved(before, a), fewest(before, a); got != want || counted(a)["d"] != 1000 {
		t.Errorf("a fourth variant: %d buckets moved, %d had to; it has %d", got, want, counted(a)["d"])
	}

	less := NewSplit("s", []Variant{v[0], v[2], v[3]}, more)
	b := assignment(less)
	if got, want := moved(a, b), fewest(a, b); got != want {
		t.Errorf("without the second: %d buckets moved, %d had to", got, want)
	}

	renamed := NewPool(poolConfig("bb", "round_robin", 1), nil, PoolOptions{})
	next := NewSplit("s", []Variant{v[0], {Pool: renamed, Weight: 30}, v[2], v[3]}, more)
	c := assignment(next)
	for bucket, name := range a {
		want := name
		if name == "b" {
			want = "bb"
		}
		if c[bucket] != want {
			t.Fatalf("bucket %d of %s went to %s when b was renamed to bb", bucket, name, c[bucket])
		}
	}

	other := variants(1, 1)
	for i := range other {
		other[i].Pool = NewPool(poolConfig(fmt.Sprintf("new%d", i), "round_robin", 1), nil, PoolOptions{})
	}
	if got := counted(assignment(NewSplit("s", other, s))); got["new0"] != 5000 || got["new1"] != 5000 {
		t.Errorf("all variants replaced: %v", got)
	}
}

func TestAnotherSaltStartsAnew(t *testing.T) {
	v := variants(50, 30, 20)
	fresh := assignment(NewSplit("s", v, nil))
	before := NewSplit("s", reweighted(v, 1, 1, 8), nil)
	if moved(fresh, assignment(NewSplit("s", v, before))) == 0 {
		t.Fatal("these weights have no history, so they show nothing")
	}
	if n := moved(fresh, assignment(NewSplit("t", v, before))); n != 0 {
		t.Errorf("%d buckets of the new salt follow the history of the old", n)
	}
}

func TestATableIsNeverChanged(t *testing.T) {
	v := variants(50, 30, 20)
	s := NewSplit("s", reweighted(v, 20, 30, 50), NewSplit("s", v, nil))
	before := fmt.Sprintf("%+v", *s.table)
	NewSplit("s", reweighted(v, 0, 90, 10), s)
	NewSplit("s", v[1:], s)
	if after := fmt.Sprintf("%+v", *s.table); after != before {
		t.Errorf("building the next split changed this one's table from %s to %s", before, after)
	}
}

// TestRunsAreTheBuckets compares tables, which hold runs of buckets, with the same rules
// carried out bucket by bucket, over changes of weights and of the variants themselves.
func TestRunsAreTheBuckets(t *testing.T) {
	r := rand.New(rand.NewPCG(11, 12))
	all := variants(1, 1, 1, 1, 1, 1)
	for range 10 {
		var s *Split
		var oracle *bucketTable
		for change := range 12 {
			n := 1 + r.IntN(len(all))
			weights := randomWeights(r, n)
			r.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
			v := reweighted(all, weights...)
			s = NewSplit("s", v, s)
			oracle = oracle.after(s.table.names, s.table.counts)
			for b := range Buckets {
				if got, want := s.table.ownerOf(b), int(oracle.owner[b]); got != want {
					t.Fatalf("change %d to %v: bucket %d belongs to %s, bucket by bucket to %s", change, weights, b, s.table.names[got], s.table.names[want])
				}
			}
		}
	}
}

// TestAFirstTableHasARunForEachVariant is what keeps a thousand routes small.
func TestAFirstTableHasARunForEachVariant(t *testing.T) {
	for _, n := range []int{1, 2, 16} {
		s := NewSplit("s", variants(slices.Repeat([]float64{1}, n)...), nil)
		if got := len(s.table.runs); got != n {
			t.Errorf("%d variants: %d runs, want as many", n, got)
		}
	}
}
