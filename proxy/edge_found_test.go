package proxy_test

import (
	"fmt"
	"strings"
	"testing"

	"weir/proxy"
)

// TestEdgeStatusLineWithoutReason: the space after the code is obligatory for a sender (RFC 9112, 4).
func TestEdgeStatusLineWithoutReason(t *testing.T) {
	ep := newEndpoint(t, serveBytes("HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nok"))
	r := start(t, setup{endpoints: []string{ep.addr}})
	c := r.dial(t)
	if m := c.get("/"); m.start != "HTTP/1.1 200 " {
		t.Errorf("status line %q", m.start)
	}
}

// TestEdgeTinyChunksTravelTogether: chunks that came in one read leave in one write, else a client makes
// weir spend a system call on every byte.
func TestEdgeTinyChunksTravelTogether(t *testing.T) {
	ep := newEndpoint(t, serveOK)
	ops := &proxy.SocketOps{}
	r := start(t, setup{endpoints: []string{ep.addr}, options: func(o *proxy.Options) { o.Ops = ops }})
	c := r.dial(t)
	body := strings.Repeat("5\r\nhello\r\n", 20_000)
	go c.send(chunkedPost("/", body+"0\r\n\r\n"))
	if m := c.answer("POST"); m.status() != 200 {
		t.Fatalf("answered with %q", m.start)
	}
	if w, rd := ops.Writes.Load(), ops.Reads.Load(); w > 2*rd+10 {
		t.Errorf("%s", fmt.Sprintf("%d writes for %d reads", w, rd))
	}
}
