// One goroutine after the other: the race detector has nothing to find here, and takes minutes.

//go:build !race

package balancer

import (
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// restarted returns what another process makes of s: other pools of the same names, and its memory.
func restarted(t *testing.T, s *Split) *Split {
	t.Helper()
	var v []Variant
	for _, old := range s.variants {
		v = append(v, Variant{Pool: NewPool(old.Pool.config, nil, PoolOptions{}), Weight: old.Weight})
	}
	next, err := NewSplitFrom(s.salt, v, s.Memory())
	if err != nil {
		t.Fatalf("a restart with weights %v: %v", weightsOf(s), err)
	}
	return next
}

func weightsOf(s *Split) (out []string) {
	for _, v := range s.variants {
		out = append(out, fmt.Sprintf("%s=%v", v.Pool.Name(), v.Weight))
	}
	return out
}

// randomChange changes weights, mostly, or which variants there are: 2 to 6 of all.
func randomChange(r *rand.Rand, all, now []Variant) []Variant {
	if len(now) == 0 || r.IntN(5) == 0 {
		r.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
		now = all[:2+r.IntN(len(all)-1)]
	}
	if r.IntN(3) == 0 { // a step of a ramp, which the next may undo
		percent := float64([]int{0, 1, 10, 30, 50, 70, 100}[r.IntN(7)])
		weights := slices.Repeat([]float64{(100 - percent) / float64(len(now)-1)}, len(now))
		weights[r.IntN(len(now))] = percent
		return reweighted(now, weights...)
	}
	return reweighted(now, randomWeights(r, len(now))...)
}

// TestARestartMovesNobody compares, over random histories, a split that goes on with one that is
// restarted after some of the changes: every bucket has the same owner, always.
func TestARestartMovesNobody(t *testing.T) {
	empty, kept := 0, 0
	for seed := range uint64(60) {
		r := rand.New(rand.NewPCG(seed, 21))
		all := variants(1, 1, 1, 1, 1, 1)
		var now []Variant
		var s, other *Split
		for change := range 25 {
			now = randomChange(r, all, now)
			s, other = NewSplit("s", now, s), NewSplit("s", now, other)
			if change == 0 || r.IntN(4) == 0 {
				if other.Memory() == "" {
					empty++
				} else {
					kept++
				}
				other = restarted(t, other)
			}
			a, b := assignment(s), assignment(other)
			if n := moved(a, b); n != 0 {
				t.Fatalf("seed %d, change %d to %v: %d buckets are elsewhere than without restarts", seed, change, weightsOf(s), n)
			}
			if s.Memory() != other.Memory() {
				t.Fatalf("seed %d, change %d to %v: the memory is not what it is without restarts", seed, change, weightsOf(s))
			}
		}
	}
	if empty < 30 || kept < 100 {
		t.Errorf("%d restarts without a memory and %d with one show too little", empty, kept)
	}
}

func TestNoMemoryWhereWeightsDecideAlone(t *testing.T) {
	v := variants(50, 30, 20)
	first := NewSplit("s", v, nil)
	for name, s := range map[string]*Split{
		"first weights":       first,
		"the same ratio":      NewSplit("s", reweighted(v, 5, 3, 2), first),
		"no affinity":         NewSplit("", v, nil),
		"no positive weight":  NewSplit("s", reweighted(v, 0, 0, 0), first),
		"a variant of weight": NewSplit("s", v[:1], nil),
	} {
		if m := s.Memory(); m != "" {
			t.Errorf("%s: memory %q, want none", name, m)
		}
	}
	there := NewSplit("s", reweighted(v, 50, 10, 40), first)
	if there.Memory() == "" {
		t.Error("a change of three variants leaves no memory")
	}
	// All buckets are where they were, but who had some of them last is not what it was.
	if NewSplit("s", v, there).Memory() == "" {
		t.Error("a change and the way back leave no memory, which later moves depend on")
	}
}

func TestAMemoryAtOtherWeightsIsAChangeOfWeights(t *testing.T) {
	v := variants(50, 30, 20)
	before := NewSplit("s", reweighted(v, 50, 10, 40), NewSplit("s", v, nil))
	for _, weights := range [][]float64{{40, 30, 30}, {0, 0, 1}} {
		want := NewSplit("s", reweighted(v, weights...), before)
		got, err := NewSplitFrom("s", reweighted(v, weights...), before.Memory())
		if err != nil {
			t.Fatal(err)
		}
		if n := moved(assignment(want), assignment(got)); n != 0 || got.Memory() != want.Memory() {
			t.Errorf("weights %v: %d buckets are elsewhere than after the change without a restart", weights, n)
		}
	}
	turned := []Variant{v[2], v[0], v[1]}
	if got, err := NewSplitFrom("s", turned, before.Memory()); err != nil ||
		moved(assignment(NewSplit("s", turned, before)), assignment(got)) != 0 {
		t.Errorf("another order in the file: error %v, or another assignment", err)
	}
}

// TestTheSizeOfAMemory is the figure of Memory's documentation.
func TestTheSizeOfAMemory(t *testing.T) {
	r := rand.New(rand.NewPCG(31, 32))
	v := variants(90, 5, 5)
	s := NewSplit("predict", v, nil)
	for _, x := range []float64{10, 20, 30, 50, 70, 100} {
		s = NewSplit("predict", reweighted(v, 100-x, x/2, x/2), s)
	}
	if n := len(s.Memory()); n > 150 {
		t.Errorf("%d bytes after a ramp, want about 100", n)
	}
	v = variants(make([]float64, 5)...)
	s = nil
	for range 1000 {
		s = NewSplit("predict", reweighted(v, r.Float64(), r.Float64(), r.Float64(), r.Float64(), r.Float64()), s)
	}
	t.Logf("%d bytes after 1,000 random changes of five variants, %d runs, %d spans", len(s.Memory()), len(s.table.runs), len(s.table.spans()))
	if n := len(s.Memory()); n > 17_000 {
		t.Errorf("%d bytes after 1,000 random changes of five variants, want about 15,000", n)
	}
	if next := restarted(t, s); next.Memory() != s.Memory() {
		t.Error("the restored split has another memory")
	}
}

// sealed returns the memory of a split with this table inside, damaged or not.
func sealed(s *Split, version byte, table []byte) string {
	b := append([]byte{version}, table...)
	return base64.RawURLEncoding.EncodeToString(binary.LittleEndian.AppendUint32(b, s.sum(b)))
}

// columnsABC begins the encoding of a table of the variants a, b, c.
const columnsABC = "\x03\x01a\x01b\x01c"

// spanOf encodes a span.
func spanOf(way int64, size, past uint64, definition ...byte) string {
	b := binary.AppendVarint(nil, way)
	b = binary.AppendUvarint(b, size<<1)
	b = binary.AppendUvarint(b, past)
	return string(append(b, definition...))
}

func TestAMemoryThatDoesNotFit(t *testing.T) {
	v := variants(50, 30, 20)
	s := NewSplit("s", reweighted(v, 50, 10, 40), NewSplit("s", v, nil))
	memory := s.Memory()
	damaged := []byte(memory)
	damaged[len(damaged)/2] ^= 1
	four := variants(50, 30, 10, 10)
	for name, test := range map[string]struct {
		salt   string
		v      []Variant
		memory string
		want   string
	}{
		"not base64":        {"s", v, "!" + memory, "is damaged"},
		"too short":         {"s", v, "AQ", "is damaged"},
		"a letter changed":  {"s", v, string(damaged), "is damaged"},
		"its end is gone":   {"s", v, memory[:len(memory)-2], "is damaged"},
		"another salt":      {"t", v, memory, "of another route"},
		"one variant more":  {"s", four, memory, `is of the variants ["a" "b" "c"], this split has ["a" "b" "c" "d"]`},
		"one variant less":  {"s", v[:2], memory, `this split has ["a" "b"]`},
		"no affinity":       {"", v, memory, "this one has none"},
		"nothing positive":  {"s", reweighted(v, 0, 0, 0), memory, "this one has none"},
		"another version":   {"s", v, sealed(s, 2, s.table.encode()), "is of version 2"},
		"no variants":       {"s", v, sealed(s, 1, []byte{0}), `variants []`},
		"nothing":           {"s", v, sealed(s, 1, nil), "ends too early"},
		"many variants":     {"s", v, sealed(s, 1, []byte("\xff\xff\xff\xff\x0f\x01a")), "ends too early"},
		"a long name":       {"s", v, sealed(s, 1, []byte("\x03\xff\x01a")), "ends too early"},
		"no span":           {"s", v, sealed(s, 1, []byte(columnsABC)), "ends too early"},
		"too few buckets":   {"s", v, sealed(s, 1, []byte(columnsABC+spanOf(0, 9999, 0, 1, 0))), "ends too early"},
		"too many buckets":  {"s", v, sealed(s, 1, []byte(columnsABC+spanOf(0, 10_001, 0, 1, 0))), "a run of 10001 buckets from 0"},
		"a size of nothing": {"s", v, sealed(s, 1, []byte(columnsABC+spanOf(0, 0, 0, 1, 0))), "a run of 0 buckets"},
		"before the first":  {"s", v, sealed(s, 1, []byte(columnsABC+spanOf(-1, 10_000, 0, 1, 0))), "from -1"},
		"past the last":     {"s", v, sealed(s, 1, []byte(columnsABC+spanOf(1, 10_000, 0, 1, 0))), "a run of 10000 buckets from 1"},
		"an overlap":        {"s", v, sealed(s, 1, []byte(columnsABC+spanOf(0, 6000, 0, 1, 0)+spanOf(-1000, 4000, 0))), "overlap"},
		"a hole":            {"s", v, sealed(s, 1, []byte(columnsABC+spanOf(1000, 5000, 0, 1, 0)+spanOf(-5000, 5000, 0))), "overlap"},
		"an unknown past":   {"s", v, sealed(s, 1, []byte(columnsABC+spanOf(0, 10_000, 1, 1, 0))), "past 1 of 0"},
		"nobody's":          {"s", v, sealed(s, 1, []byte(columnsABC+spanOf(0, 10_000, 0, 0))), "0 of 3 variants"},
		"an unknown owner":  {"s", v, sealed(s, 1, []byte(columnsABC+spanOf(0, 10_000, 0, 1, 3))), "a variant that there is not"},
		"an owner twice":    {"s", v, sealed(s, 1, []byte(columnsABC+spanOf(0, 10_000, 0, 2, 1, 1))), "one twice"},
		"something follows": {"s", v, sealed(s, 1, []byte(columnsABC+spanOf(0, 10_000, 0, 1, 0)+"\x00")), "1 bytes follow"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := NewSplitFrom(test.salt, test.v, test.memory); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %v, want one with %q", err, test.want)
			}
		})
	}
	if _, err := NewSplitFrom("s", v, sealed(s, 1, []byte(columnsABC+spanOf(0, 10_000, 0, 2, 1, 0)))); err != nil {
		t.Errorf("the tables above are not wrong only where they are meant to be: %v", err)
	}
}

// FuzzDecodeTable decodes anything. What is accepted is a whole table, moves on like one, and is
// the same after it was written and read again.
func FuzzDecodeTable(f *testing.F) {
	r := rand.New(rand.NewPCG(41, 42))
	v := variants(1, 1, 1)
	var s *Split
	for range 6 {
		s = NewSplit("s", reweighted(v, randomWeights(r, 3)...), s)
		f.Add(s.table.encode())
	}
	f.Add([]byte(columnsABC + spanOf(0, 6000, 0, 1, 0) + spanOf(-1000, 4000, 0)))
	f.Fuzz(func(t *testing.T, b []byte) {
		names := []string{"a", "b", "c"}
		decoded, err := decodeTable(b, names)
		if err != nil {
			return
		}
		end := 0
		counts := make([]int, 3)
		for _, r := range decoded.runs {
			if r.from != end || r.to <= r.from {
				t.Fatalf("a run from %d to %d follows one that ends at %d", r.from, r.to, end)
			}
			end = r.to
			counts[r.owner] += r.size()
		}
		if end != Buckets || !slices.Equal(counts, decoded.counts) {
			t.Fatalf("runs end at %d, counts %v, want %v", end, decoded.counts, counts)
		}
		again, err := decodeTable(decoded.encode(), names)
		if err != nil {
			t.Fatalf("what was written cannot be read: %v", err)
		}
		for _, counts := range [][]int{{3333, 3333, 3334}, {0, 10_000, 0}, {5000, 1, 4999}} {
			decoded, again = decoded.moved(names, counts), again.moved(names, counts)
			for bucket := range Buckets {
				if decoded.ownerOf(bucket) != again.ownerOf(bucket) {
					t.Fatalf("at %v, bucket %d is elsewhere after writing and reading", counts, bucket)
				}
			}
		}
	})
}
