package proxy_test

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/http2"
)

// narrow dials weir as a client whose system takes little beyond what the client reads.
func (r *running) narrow(t testing.TB) *net.TCPConn {
	t.Helper()
	d := net.Dialer{Control: func(_, _ string, c syscall.RawConn) (err error) {
		if wrong := c.Control(func(fd uintptr) {
			err = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, 8<<10)
		}); wrong != nil {
			return wrong
		}
		return err
	}}
	nc, err := d.Dial("tcp", r.addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nc.Close() })
	return nc.(*net.TCPConn)
}

// unending answers without end, also where it is asked for a WebSocket connection.
func unending(w http.ResponseWriter, q *http.Request) {
	out := io.Writer(w)
	if q.Header.Get("Upgrade") != "" {
		nc, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			return
		}
		defer nc.Close()
		_, _ = io.WriteString(nc, upgradeAnswer)
		out = nc
	}
	if q.URL.Path == "/sized" {
		w.Header().Set("Content-Length", "1000000000000")
	}
	piece := make([]byte, 64<<10)
	for {
		if _, err := out.Write(piece); err != nil {
			return
		}
	}
}

// TestEdgeStuckClients: whoever does not read what is sent is given up by a reset. Behind a FIN the system would keep what
// is unread, for as long as the client likes.
func TestEdgeStuckClients(t *testing.T) {
	k := newKeeper(t)
	addr := newH1(t, unending)
	over := func(config *tls.Config, nc net.Conn) net.Conn {
		c := tls.Client(nc, config)
		if err := c.Handshake(); err != nil {
			t.Error(err)
		}
		return c
	}
	frames := func(nc net.Conn) {
		fr := http2.NewFramer(nc, nc)
		_, _ = io.WriteString(nc, http2.ClientPreface)
		_ = fr.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1<<31 - 1})
		_ = fr.WriteWindowUpdate(0, 1<<31-1-65535)
		// GET / of authority h, over http
		_ = fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: []byte("\x82\x86\x84\x41\x01h"), EndStream: true, EndHeaders: true})
	}
	ask := func(text string) func(net.Conn) {
		return func(nc net.Conn) { _, _ = io.WriteString(nc, text) }
	}
	for name, c := range map[string]struct {
		route string
		over  func(net.Conn) net.Conn
		ask   func(net.Conn)
	}{
		"chunks":       {ask: ask("GET / HTTP/1.1\r\nHost: h\r\n\r\n")},
		"sized":        {ask: ask("GET /sized HTTP/1.1\r\nHost: h\r\n\r\n")},
		"total":        {ask: ask("GET /sized HTTP/1.1\r\nHost: h\r\n\r\n"), route: "timeouts: {total: 400ms}"},
		"HTTP/2":       {ask: frames},
		"WebSocket":    {ask: ask(upgradeRequest), route: "timeouts: {idle: 400ms}"},
		"TLS":          {ask: ask("GET / HTTP/1.1\r\nHost: h\r\n\r\n"), over: func(nc net.Conn) net.Conn { return over(k.client(), nc) }},
		"HTTP/2 + TLS": {ask: frames, over: func(nc net.Conn) net.Conn { c := k.client(); c.NextProtos = []string{"h2"}; return over(c, nc) }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			body := "400ms"
			if c.route != "" { // which says what ends it
				body = "60s"
			}
			s := setup{endpoints: []string{addr}, route: c.route, listener: "timeouts: {body: " + body + "}\n"}
			var r *running
			var nc net.Conn
			if c.over == nil {
				r = start(t, s)
				nc = r.narrow(t)
				c.ask(nc)
			} else {
				r = secured(t, k, "", s)
				nc = r.narrow(t)
				c.ask(c.over(nc))
			}
			_ = nc.SetDeadline(time.Now().Add(3 * patience))
			if _, err := nc.Read(make([]byte, 1)); err != nil {
				t.Fatal(err)
			}
			eventually(t, "the end of the connection", func() bool { return sum(r.metrics(t), "weir_connections") == 0 })
			if n, err := io.Copy(io.Discard, nc); !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("the connection ended behind %d more bytes with %v, want a reset", n, err)
			}
		})
	}
}

// TestEdgeSlowReaderIsNotStuck: who reads all the time gets all of the answer, however long that takes.
func TestEdgeSlowReaderIsNotStuck(t *testing.T) {
	t.Parallel()
	const size, pieces = 12 << 20, 60
	addr := newH1(t, func(w http.ResponseWriter, q *http.Request) { _, _ = w.Write(make([]byte, size)) })
	r := start(t, setup{endpoints: []string{addr}, listener: "timeouts: {body: 3s}"})
	nc, err := net.Dial("tcp", r.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	_, _ = io.WriteString(nc, "GET / HTTP/1.0\r\n\r\n")
	_ = nc.SetDeadline(time.Now().Add(6 * patience))
	n, piece := 0, make([]byte, size/pieces)
	for {
		m, err := io.ReadFull(nc, piece)
		if n += m; err == io.EOF || err == io.ErrUnexpectedEOF {
			break
		}
		if err != nil {
			t.Fatalf("%v after %d bytes", err, n)
		}
		time.Sleep(100 * time.Millisecond)
	}
	if n < size {
		t.Errorf("%d bytes of %d", n, size)
	}
}
