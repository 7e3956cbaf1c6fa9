//go:build !race

package proxy_test

import (
	"runtime"
	"testing"

	"weir/backend/backendtest"
)

// used is what the heap and the stacks take.
func used() int64 {
	runtime.GC()
	runtime.GC() // the second empties the pools
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapInuse + m.StackInuse)
}

// TestEdgeTunnelMemory: a tunnel through which nothing flows holds no buffers.
func TestEdgeTunnelMemory(t *testing.T) {
	const n = 500
	ep := tunnelEndpoint(t, echoBytes)
	r := start(t, setup{endpoints: []string{ep.addr}})
	before := used()
	for range n {
		c, _ := r.upgraded(t)
		c.send("some bytes")
		c.expect("some bytes")
	}
	each := (used() - before) / n
	t.Logf("%d bytes a tunnel, with its client and its endpoint", each)
	if each > 48<<10 {
		t.Errorf("a tunnel holds %d bytes, with its client and its endpoint", each)
	}
}

// TestEdgeDuplexMemory: the upload of a conversation that is silent holds no buffer.
func TestEdgeDuplexMemory(t *testing.T) {
	const n = 90 // streams of one connection
	_, _, c := conversing(t, backendtest.GRPCBehaviour{}, setup{})
	before := used()
	for range n {
		s, _ := talk(t, c)
		if err := swap(s, "some bytes"); err != nil {
			t.Fatal(err)
		}
	}
	each := (used() - before) / n
	t.Logf("%d bytes a conversation, with its client and its endpoint", each)
	if each > 224<<10 { // the buffer of an upload has 256 KiB
		t.Errorf("a conversation holds %d bytes, with its client and its endpoint", each)
	}
}
