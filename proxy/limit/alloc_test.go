//go:build !race

// The race detector allocates, and makes ten million keys last a minute.

package limit

import (
	"encoding/binary"
	"runtime"
	"testing"
)

// TestMemoryIsBounded meets ten million keys in a table for a million.
func TestMemoryIsBounded(t *testing.T) {
	const keys, distinct = 1 << 20, 10_000_000
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	l := New(1000, 10, keys)
	var key [8]byte
	for n := range uint64(distinct) {
		binary.LittleEndian.PutUint64(key[:], n)
		if ok, _, _ := l.Take(key[:], 1, int64(n)*20_000); !ok { // 50,000 a second: debts of 1 ms are over soon
			t.Fatalf("key %d was refused", n)
		}
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	perKey := float64(after.HeapAlloc-before.HeapAlloc) / keys
	t.Logf("%.2f bytes a key", perKey)
	if perKey > 16.5 {
		t.Errorf("%.2f bytes a key, at most 16.5", perKey)
	}
	if total := float64(after.TotalAlloc-before.TotalAlloc) / keys; total > 16.5 {
		t.Errorf("%.2f bytes a key were allocated in all", total)
	}
	if l.Keys() > keys || l.Keys() < keys*99/100 {
		t.Errorf("%d keys are remembered, want at most and nearly %d", l.Keys(), keys)
	}
	if l.Crowded() != 0 {
		t.Errorf("%d keys found no place, where nearly all are full again", l.Crowded())
	}
	runtime.KeepAlive(l)
}

func TestNoAllocation(t *testing.T) {
	l := New(1e-3, 2, 64)
	key, now := name(1), int64(0)
	if n := testing.AllocsPerRun(10_000, func() { // known, new and crowded keys
		now++
		key[0], key[1] = byte(now), byte(now>>8)
		l.Take(key, 1, now)
	}); n != 0 {
		t.Errorf("%g allocations a request", n)
	}
	if l.Crowded() == 0 {
		t.Error("no key was crowded out")
	}
}
