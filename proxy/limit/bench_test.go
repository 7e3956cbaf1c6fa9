package limit

import (
	"encoding/binary"
	"sync/atomic"
	"testing"
	"time"
)

// BenchmarkTake is one Take, alone and by as many goroutines as there are processors: of one key, of 100,000
// known ones in no order, and of keys that are never seen again, in a table with room and in one that is in
// debt throughout.
func BenchmarkTake(b *testing.B) {
	for _, c := range []struct {
		name  string
		rate  float64
		burst int
		next  func(n uint64) uint64
	}{
		{"hot", 1e9, 1000, func(uint64) uint64 { return 1 }},
		{"refused", 1e-3, 1, func(uint64) uint64 { return 1 }},
		{"many", 1000, 1000, func(n uint64) uint64 { return n * 0x9e37_79b9_7f4a_7c15 % 100_000 }},
		{"new", 1e9, 1, func(n uint64) uint64 { return n }},
		{"crowded", 1e-3, 1, func(n uint64) uint64 { return n }},
	} {
		const keys = 1 << 20
		var started atomic.Uint64
		epoch := time.Now()
		loop := func(l *Limiter, next func() bool) {
			var key [16]byte
			n := started.Add(1) << 40
			now := int64(time.Since(epoch))
			for next() {
				if n++; n%64 == 0 { // as a loop does that reads the clock once for a batch of events
					now = int64(time.Since(epoch))
				}
				binary.LittleEndian.PutUint64(key[:], c.next(n))
				l.Take(key[:], 1, now)
			}
		}
		l := New(c.rate, c.burst, keys)
		fill := 100_000
		if c.name == "crowded" {
			fill = 2 * keys
		}
		loop(l, func() bool { fill--; return fill >= 0 })
		b.Run(c.name+"/alone", func(b *testing.B) {
			b.ReportAllocs()
			loop(l, b.Loop)
		})
		b.Run(c.name+"/parallel", func(b *testing.B) {
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) { loop(l, pb.Next) })
		})
	}
}
