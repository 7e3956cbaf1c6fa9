//go:build !race

package cache

import (
	"runtime"
	"testing"
)

// TestMemory meets a million distinct keys: the memory that is used in fact stays within what is configured.
func TestMemory(t *testing.T) {
	const most, distinct = 64 << 20, 1_000_000
	for _, size := range []int{0, 100, 5000} {
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		c := New(most)
		b := make([]byte, 0, 256)
		for n := range uint64(distinct) {
			if size == 5000 && n > distinct/10 {
				break
			}
			e := entry(n, size, 1)
			e.Path = "/a/path/of/usual/length"
			c.Keep(b, number(n), nil, e)
			if f := c.bytes.Load(); f > most {
				t.Fatalf("%d bytes after %d keys", f, n)
			}
		}
		runtime.GC()
		runtime.ReadMemStats(&after)
		used, f := int64(after.HeapAlloc-before.HeapAlloc), c.Figures()
		t.Logf("bodies of %d bytes: %d entries, charged %d bytes each, use %d", size, f.Entries, f.Bytes/int64(f.Entries), used/int64(f.Entries))
		if used > most {
			t.Errorf("%d bytes used, %d are allowed", used, most)
		}
		if used < most/3 || f.Bytes < most*9/10 {
			t.Errorf("only %d bytes are used, %d charged", used, f.Bytes)
		}
		runtime.KeepAlive(c)
	}
}

func TestFindDoesNotAllocate(t *testing.T) {
	c := New(1 << 20)
	e := NewEntry(200, lines("Vary: Accept"), nil)
	e.Asked = 1
	request := lines("Host: h", "Accept: */*", "Cache-Control: max-age=60", "If-None-Match: \"x\"")
	c.Keep(nil, number(1), request, e)
	b := make([]byte, 0, 512)
	if n := testing.AllocsPerRun(1000, func() {
		if a := ReadAsk(request); !a.Conditional() || c.Find(b, number(1), request, 7, 2).Entry == nil {
			t.Fatal("not found")
		}
	}); n > 0 {
		t.Errorf("%v allocations", n)
	}
}
