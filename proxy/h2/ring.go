package h2

import "sync"

// ring holds data that has come and nobody has read yet. Its memory grows with what it holds and, beyond a small
// answer, is from a pool and only had meanwhile.
type ring struct {
	b     []byte
	at, n int
	lent  *[]byte // of a pool, whose memory b is, or nil
}

const (
	leastRing  = 512
	smallRing  = 16 << 10
	middleRing = 64 << 10
	largeRing  = 256 << 10
)

var (
	middleRings = sync.Pool{New: func() any { b := make([]byte, middleRing); return &b }}
	largeRings  = sync.Pool{New: func() any { b := make([]byte, largeRing); return &b }}
)

func (r *ring) write(p []byte) {
	if r.n+len(p) > len(r.b) {
		r.grow(r.n + len(p))
	}
	at := r.at + r.n
	if at >= len(r.b) {
		at -= len(r.b)
	}
	copy(r.b, p[copy(r.b[at:], p):])
	r.n += len(p)
}

// grow makes room for so many bytes in all.
func (r *ring) grow(need int) {
	var b []byte
	var lent *[]byte
	switch {
	case need <= smallRing:
		size := leastRing
		for size < need {
			size *= 2
		}
		b = make([]byte, size)
	case need <= middleRing:
		lent = middleRings.Get().(*[]byte)
		b = *lent
	case need <= largeRing:
		lent = largeRings.Get().(*[]byte)
		b = *lent
	default: // a larger window than any stream here has
		b = make([]byte, 2*need)
	}
	n := copy(b, r.b[r.at:min(r.at+r.n, len(r.b))])
	copy(b[n:], r.b[:r.n-n])
	r.giveBack()
	r.b, r.at, r.lent = b, 0, lent
}

func (r *ring) read(p []byte) int {
	p = p[:min(len(p), r.n)]
	k := copy(p, r.b[r.at:min(r.at+r.n, len(r.b))])
	k += copy(p[k:], r.b[:r.n-k])
	if r.n -= k; r.n == 0 {
		r.clear()
	} else if r.at += k; r.at >= len(r.b) {
		r.at -= len(r.b)
	}
	return k
}

// clear forgets what is there, and gives memory back that a small answer does not need.
func (r *ring) clear() {
	r.at, r.n = 0, 0
	if len(r.b) > smallRing {
		r.giveBack()
		r.b = nil
	}
}

func (r *ring) giveBack() {
	switch {
	case r.lent == nil:
	case len(*r.lent) == middleRing:
		middleRings.Put(r.lent)
	default:
		largeRings.Put(r.lent)
	}
	r.lent = nil
}
