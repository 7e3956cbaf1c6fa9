package bench

import (
	"slices"
	"time"
)

// Stickiness follows which variant served each user, and counts the users that were served by
// more than one while the weights stayed the same. It is not safe for concurrent use.
//
// Weights may change at any time, and whoever watches them learns of it a little later. So
// sightings first wait: [Stickiness.Confirm] counts those up to a moment at which the weights
// were known to be unchanged, [Stickiness.Restart] forgets everything at a change.
type Stickiness struct {
	variants []string
	users    []userState
	waiting  []Sighting
	since    time.Duration // sightings of requests sent before it say nothing
}

// userState is one user's variant, as an index into variants plus one, 0 when not seen yet;
// moved means that there was another.
type userState struct {
	variant uint16
	moved   bool
}

// NewStickiness follows so many users.
func NewStickiness(users int) *Stickiness {
	return &Stickiness{users: make([]userState, users)}
}

// Add takes sightings in, to be counted when they are confirmed.
func (s *Stickiness) Add(sightings []Sighting) { s.waiting = append(s.waiting, sightings...) }

// Confirm counts the waiting sightings of requests that were answered by until.
func (s *Stickiness) Confirm(until time.Duration) {
	kept := s.waiting[:0]
	for _, seen := range s.waiting {
		switch {
		case seen.Sent < s.since:
		case seen.Done > until:
			kept = append(kept, seen)
		default:
			s.count(seen)
		}
	}
	s.waiting = kept
}

// Restart forgets everything, because the weights had changed by at: requests sent before it
// were split by other weights, or may have been.
func (s *Stickiness) Restart(at time.Duration) {
	clear(s.users)
	s.since = at
}

func (s *Stickiness) count(seen Sighting) {
	i := slices.Index(s.variants, seen.Variant)
	if i < 0 {
		i = len(s.variants)
		s.variants = append(s.variants, seen.Variant)
	}
	u := &s.users[seen.User]
	switch {
	case u.variant == 0:
		u.variant = uint16(i + 1)
	case u.variant != uint16(i+1):
		u.moved = true
	}
}

// Users returns how many users were seen, by the variant that served them first, and how many
// of them were served by another one too.
func (s *Stickiness) Users() (byVariant map[string]uint64, moved uint64) {
	byVariant = map[string]uint64{}
	for _, u := range s.users {
		if u.variant > 0 {
			byVariant[s.variants[u.variant-1]]++
		}
		if u.moved {
			moved++
		}
	}
	return byVariant, moved
}
