package proxy

import (
	"encoding/binary"
	"io"
	"net"
	"testing"

	"weir/config"
	"weir/proxy/enginetest"
)

// costHTTP2Endpoint answers each request over HTTP/2 with the same frames, without an allocation of its own.
func costHTTP2Endpoint(tb testing.TB) string {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = ln.Close() })
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go serveCostHTTP2(c)
		}
	}()
	return ln.Addr().String()
}

func serveCostHTTP2(c net.Conn) {
	defer c.Close()
	const headers, settings, endStream, ack = 1, 4, 1, 1
	if _, err := io.ReadFull(c, make([]byte, len("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"))); err != nil {
		return
	}
	if _, err := c.Write([]byte{0, 0, 0, settings, 0, 0, 0, 0, 0, 0, 0, 0, settings, ack, 0, 0, 0, 0}); err != nil {
		return
	}
	const body = `{"prediction":1}`
	frame := func(kind, flags byte, payload string) []byte {
		return append([]byte{0, 0, byte(len(payload)), kind, flags, 0, 0, 0, 0}, payload...)
	}
	// :status 200, content-type: application/json and content-length: 16, none of which goes into the table.
	head := frame(headers, 4, "\x88\x0f\x10\x10application/json\x0f\x0d\x0216")
	answer := append(append(head, frame(0, endStream, body)...), frame(8, 0, "\x00\x00\x00\x28")...)
	data := len(head)
	var buf [4096]byte
	n := 0
	for {
		m, err := c.Read(buf[n:])
		if err != nil {
			return
		}
		n += m
		for n >= 9 {
			size := 9 + int(binary.BigEndian.Uint32(buf[:4])>>8)
			if n < size {
				break
			}
			if kind, flags := buf[3], buf[4]; kind <= headers && flags&endStream != 0 {
				copy(answer[5:9], buf[5:9])
				copy(answer[data+5:data+9], buf[5:9])
				if _, err := c.Write(answer); err != nil {
					return
				}
			}
			n = copy(buf[:], buf[size:n])
		}
	}
}

func costHTTP2Proxy(tb testing.TB) (*Proxy, *SocketOps) {
	p, ops := costProxy(tb, costHTTP2Endpoint(tb))
	cfg := *p.table.Load().cfg
	cfg.Pools = append([]config.Pool(nil), cfg.Pools...)
	cfg.Pools[0].Protocol = config.ProtocolHTTP2
	if _, _, err := p.Apply(&cfg); err != nil {
		tb.Fatal(err)
	}
	return p, ops
}

// TestHTTP2SystemCallsPerRequest: what one request costs that finds a connection.
func TestHTTP2SystemCallsPerRequest(t *testing.T) {
	p, ops := costHTTP2Proxy(t)
	trip := roundTrips(t, p, "{\"prediction\":1}")
	trip()
	trip()
	const n = 500
	reads, writes := ops.Reads.Load(), ops.Writes.Load()
	for range n {
		trip()
	}
	reads, writes = ops.Reads.Load()-reads, ops.Writes.Load()-writes
	tries := uint64(4 * n) // client and endpoint: a read that finds nothing yet, and the read
	if enginetest.Name() != config.EngineGoroutine {
		tries = 2 * n
	}
	// A window's update may leave by itself: weir's whole windows are larger than what comes here.
	if writes != 2*n || reads > tries {
		t.Errorf("%d reads, %d writes for %d requests; want at most %d, %d", reads, writes, n, tries, 2*n)
	}
}

func BenchmarkHTTP2Request(b *testing.B) {
	p, _ := costHTTP2Proxy(b)
	trip := roundTrips(b, p, "{\"prediction\":1}")
	trip()
	b.ReportAllocs()
	for b.Loop() {
		trip()
	}
}
