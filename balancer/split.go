package balancer

import (
	"math"
	"slices"
	"sync"

	"github.com/cespare/xxhash/v2"
)

// Variant is a pool and its relative weight in a split. Weight 0 gets no new requests.
type Variant struct {
	Pool   *Pool
	Weight float64
}

// Split chooses the variant of a route's requests. It is never changed: other weights are
// another Split. It must not be copied.
//
// Both ways to choose return the variant to use and the one the weights intended, as
// indices into Variants. They differ when the intended one has no usable endpoint and the
// request spills over to another. chosen is -1 when no variant of weight > 0 is usable;
// intended is -1 too when there is none.
type Split struct {
	variants []Variant
	bounds   []bound

	salt    string
	hash    xxhash.Digest // of the salt and its separator
	table   *table        // nil without affinity
	columns []int         // a column of the table → index into variants
	keys    []uint64      // a hash of each variant's name

	remember sync.Once
	memory   string // valid once remember is done
}

// bound is the end of a positive weight's part of the 64-bit numbers.
type bound struct {
	variant int
	last    uint64 // the greatest number that is its
}

// NewSplit builds the split of v, each pool at most once. The salt makes the assignment of
// subjects independent of other splits'; without one ("") the split has no affinity table
// and BySubject chooses afresh at every change of weights.
//
// prev, which may be nil, is the split that v replaces: if it has the same salt, only the
// subjects move that must. Variants are matched by the names of their pools.
func NewSplit(salt string, v []Variant, prev *Split) *Split {
	s := newSplit(salt, v)
	if !s.sticky() {
		return s
	}
	var before *table
	if prev != nil && prev.salt == salt {
		before = prev.table
	}
	s.table, s.columns = newTable(v, before)
	return s
}

// newSplit returns a split that lacks its table, if it is to have one.
func newSplit(salt string, v []Variant) *Split {
	s := &Split{variants: slices.Clone(v), bounds: newBounds(v), salt: salt}
	for _, variant := range v {
		s.keys = append(s.keys, xxhash.Sum64String(variant.Pool.Name()))
	}
	s.hash.Reset()
	_, _ = s.hash.WriteString(salt) // a hash takes everything
	_, _ = s.hash.Write([]byte{saltEnd})
	return s
}

// sticky reports whether subjects are assigned by a table.
func (s *Split) sticky() bool { return s.salt != "" && len(s.bounds) > 0 }

func newBounds(variants []Variant) []bound {
	largest := 0.0
	for _, v := range variants {
		largest = max(largest, v.Weight)
	}
	sum := 0.0
	for _, v := range variants {
		if v.Weight > 0 {
			sum += v.Weight / largest
		}
	}
	var bounds []bound
	upTo := 0.0
	for i, v := range variants {
		if v.Weight <= 0 {
			continue
		}
		upTo += v.Weight / largest
		bounds = append(bounds, bound{variant: i, last: fraction(upTo / sum)})
	}
	return bounds // the last ends at 2^64 - 1: upTo is the same sum again
}

// Variants returns the variants in the order they were given. The slice is shared: do not
// change it.
func (s *Split) Variants() []Variant { return s.variants }

// ByChance chooses by weight, for a uniform random u. Weights are exact: no part is too
// small for a number of 64 bits. A spilled request goes to the usable others by weight.
func (s *Split) ByChance(u uint64) (chosen, intended int) {
	for i := range s.bounds {
		if u <= s.bounds[i].last {
			intended = s.bounds[i].variant
			if s.variants[intended].Pool.Usable() {
				return intended, intended
			}
			return s.spillByChance(u), intended
		}
	}
	return -1, -1
}

// spillByChance draws one of the usable variants by weight: the k-th of them replaces the
// one drawn so far with probability weight / sum of the first k weights.
func (s *Split) spillByChance(u uint64) int {
	chosen, sum := -1, 0.0
	for i := range s.variants {
		v := &s.variants[i]
		if v.Weight <= 0 || !v.Pool.Usable() {
			continue
		}
		sum += v.Weight
		if u = mix(u); unit(u)*sum <= v.Weight {
			chosen = i
		}
	}
	return chosen
}

// BySubject chooses by a hash of the subject (a user, a session): the same subject gets the
// same variant as long as the weights hold. It spills by a fixed order of the subject's
// bucket, which follows the weights, and comes back when the variant is usable again.
func (s *Split) BySubject(subject []byte) (chosen, intended int) {
	if s.table == nil {
		return s.ByChance(xxhash.Sum64(subject))
	}
	bucket := s.Bucket(subject)
	intended = s.columns[s.table.ownerOf(bucket)]
	if s.variants[intended].Pool.Usable() {
		return intended, intended
	}
	return s.spillByBucket(uint64(bucket)), intended
}

// spillByBucket is weighted rendezvous hashing: of the usable variants, the one with the
// least -ln(hash of bucket and name) / weight.
func (s *Split) spillByBucket(bucket uint64) int {
	chosen, least := -1, math.Inf(1)
	for i := range s.variants {
		v := &s.variants[i]
		if v.Weight <= 0 || !v.Pool.Usable() {
			continue
		}
		cost := -math.Log(unit(mix(s.keys[i]^mix(bucket)))) / v.Weight
		if chosen < 0 || cost < least {
			chosen, least = i, cost
		}
	}
	return chosen
}

// Bucket returns the subject's bucket, 0 to 9999. Without a salt there is only bucket 0.
func (s *Split) Bucket(subject []byte) int {
	if s.table == nil {
		return 0
	}
	h := s.hash
	_, _ = h.Write(subject)
	return int(h.Sum64() % Buckets)
}

// mix is the finalizer of splitmix64: every bit of u changes every bit of the result evenly.
func mix(u uint64) uint64 {
	u += 0x9e3779b97f4a7c15
	u = (u ^ u>>30) * 0xbf58476d1ce4e5b9
	u = (u ^ u>>27) * 0x94d049bb133111eb
	return u ^ u>>31
}

// unit returns u as a number above 0, up to 1.
func unit(u uint64) float64 { return float64(u>>11+1) / (1 << 53) }
