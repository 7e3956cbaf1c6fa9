package proxy_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// narrow is an endpoint to which little can be on its way at one time.
func narrow(t *testing.T, serve func(n int, w *wire)) string {
	t.Helper()
	c := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) (err error) {
		_ = raw.Control(func(fd uintptr) {
			if err = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_MAXSEG, 536); err == nil {
				err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, 4096)
			}
		})
		return err
	}}
	ln, err := c.Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	go func() {
		for n := 1; ; n++ {
			nc, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer nc.Close()
				serve(n, newWire(nc))
			}()
		}
	}()
	return ln.Addr().String()
}

// TestEdgeInspectedAnswerFirst: an endpoint answers, reads no more of a body that was gathered whole, and holds the
// connection open. The client has its answer at once, and no other request is sent behind half a body.
func TestEdgeInspectedAnswerFirst(t *testing.T) {
	got := make(chan int64, 1)
	addr := narrow(t, func(n int, w *wire) {
		m, err := w.readHead()
		if err != nil {
			return
		}
		if n == 1 {
			w.send("HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno")
			time.Sleep(2 * time.Second)
			n, _ := io.Copy(io.Discard, w.br)
			got <- n
			return
		}
		if w.readRequestBody(m, nil) == nil && len(m.body) == inspected {
			w.send(okResponse)
		}
	})
	r := start(t, setup{endpoints: []string{addr}, change: byJSON, options: oneLoop})
	cl := r.dial(t)
	request := fmt.Sprintf("POST /first HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n%s", inspected, strings.Repeat("x", inspected))
	began := time.Now()
	cl.send(request)
	if m := cl.answer("POST"); m.status() != 403 || string(m.body) != "no" {
		t.Errorf("%q, %q", m.start, m.body)
	}
	if took := time.Since(began); took > 1500*time.Millisecond {
		t.Errorf("the answer came after %v", took)
	}
	cl.send(request)
	if m := cl.answer("POST"); m.status() != 200 {
		t.Errorf("the next request: %q", m.start)
	}
	if n := <-got; n >= inspected {
		t.Errorf("all %d bytes left at once: this tests nothing", n)
	}
}
