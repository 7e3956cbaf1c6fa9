package limit

// ways is how many keys a set has places for. With 8, which were not faster to search, the first key that
// found none came at 71 % instead of 85 %.
const ways = 16

// known marks a word whose key has come back, in the bit that a fingerprint leaves.
const known = 1

// set is where a key of a certain hash can be: two cache lines to find it in, and two of what is kept for them.
type set struct {
	words [ways]uint64 // fingerprints; 0 for none, which are the last ones
	due   [ways]int64  // when the bucket is full, in ticks of the shard's clock
}

// place is where a key is in the table.
type place struct {
	word    *uint64 // nil for nowhere
	due     *int64
	mark    uint64 // the word to store when something has been taken
	crowded bool   // it could not have a place
}

func (p *place) found() bool { return p.word != nil }

// place finds the key of this hash, or, when it is not there and wanted, the place that it may have. Each
// key has two sets, and a new one goes where more is spare, which fills nearly all places before a key
// finds none (Azar, Broder, Karlin, Upfal: Balanced Allocations, 1994). Nothing is stored yet but the
// fact that the place's old key is gone.
func (s *shard) place(hash uint64, now int64, wanted bool) place {
	n := uint64(len(s.sets))
	a := &s.sets[hash&0xffff_ffff*n>>32]
	b := &s.sets[hash*0x9e37_79b9_7f4a_7c15>>32*n>>32] // 2^64 by the golden ratio: other bits than a's
	word := hash | known
	if word == known {
		word = 2 | known // 0 is nobody's
	}
	for _, at := range [...]*set{a, b} {
		for i := range at.words {
			if at.words[i]|known == word {
				return place{word: &at.words[i], due: &at.due[i], mark: word}
			}
		}
	}
	if !wanted {
		return place{}
	}
	i, spare := a.spare(now, s.figures.full)
	if j, more := b.spare(now, s.figures.full); more > spare {
		a, i, spare = b, j, more
	}
	if spare == 0 {
		return place{crowded: true}
	}
	a.due[i] = now
	return place{word: &a.words[i], due: &a.due[i], mark: word &^ known}
}

// spare returns how many places of the set a new key may have, and the best of them: an empty one, else
// that whose bucket has been full for longest.
//
// A key that has come back keeps its place, although its bucket is full, for as long as an empty bucket
// takes to fill. Else keys that are used once, in numbers, would take the place of everybody who pauses.
// Half of a set can be kept like that, those that were there last, so that it is no way to occupy the table.
func (s *set) spare(now, window int64) (best, n int) {
	kept, oldest := 0, 0
	best = -1
	for i, word := range s.words {
		due := s.due[i]
		switch {
		case word == 0:
			return i, n + ways - i
		case due > now:
		case word&known != 0 && now-due < window:
			if kept == 0 || due < s.due[oldest] {
				oldest = i
			}
			kept++
		default:
			if best < 0 || due < s.due[best] {
				best = i
			}
			n++
		}
	}
	if over := kept - ways/2; over > 0 {
		n += over
		if best < 0 {
			best = oldest
		}
	}
	return best, n
}
