package proxy

import (
	"sync"
	"sync/atomic"
)

// budget bounds the attempts that a route makes beyond the first of each request, so that endpoints in trouble
// do not get a multiple of what they cannot bear (https://sre.google/sre-book/handling-overload, "Deciding to
// Retry"). It outlives tables, and so does what it counts.
//
// It counts by seconds. An attempt is compared with the whole of the last budgetSeconds and the present second,
// requests with those alone, so that no 10 s see more than is allowed.
type budget struct {
	now      atomic.Uint32
	requests [budgetSeconds + 1]atomic.Uint32

	mu        sync.Mutex // held by what is rare, so that none is one too many
	taken     [budgetSeconds + 1]uint32
	exhausted atomic.Uint64 // attempts that it did not allow
}

const (
	budgetSeconds = 10
	budgetAtLeast = 10 // attempts in 10 s that are allowed whatever the number of requests
)

func (b *budget) request() { b.requests[b.now.Load()].Add(1) }

// tick begins another second.
func (b *budget) tick() {
	next := (b.now.Load() + 1) % uint32(len(b.requests))
	b.requests[next].Store(0)
	b.mu.Lock()
	b.taken[next] = 0
	b.mu.Unlock()
	b.now.Store(next)
}

// take reports whether another attempt is allowed, and counts it.
func (b *budget) take(percent float64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	var requests, taken uint64
	oldest := (b.now.Load() + 1) % uint32(len(b.requests))
	for i := range b.requests {
		if uint32(i) != oldest {
			requests += uint64(b.requests[i].Load())
		}
		taken += uint64(b.taken[i])
	}
	if float64(taken) >= max(budgetAtLeast, percent/100*float64(requests)) {
		b.exhausted.Add(1)
		return false
	}
	b.taken[b.now.Load()]++
	return true
}
