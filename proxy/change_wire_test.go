package proxy

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync/atomic"
	"testing"
	"time"
)

// keptAlive sends n requests for /one over one connection. stamp is called before the first byte of each,
// and what it returns with the variant that answered.
func keptAlive(ctx context.Context, address string, n int, stamp func() func(variant string) error) error {
	c, err := net.Dial("tcp", address)
	if err != nil {
		return err
	}
	defer c.Close()
	answers := bufio.NewReader(c)
	for i := 0; i < n && ctx.Err() == nil; i++ {
		_ = c.SetDeadline(time.Now().Add(10 * time.Second))
		judge := stamp()
		if _, err := io.WriteString(c, "GET /one HTTP/1.1\r\nHost: h\r\n\r\n"); err != nil {
			return err
		}
		r, err := http.ReadResponse(answers, nil)
		if err != nil {
			return err
		}
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return err
		}
		if v := r.Header.Get("X-Weir-Variant"); r.StatusCode != 200 || v != string(body) {
			return fmt.Errorf("%d, variant %q, answered by %q", r.StatusCode, v, body)
		}
		if err := judge(string(body)); err != nil {
			return err
		}
	}
	return nil
}

// endpoint answers with its name and counts the connections it has. A request for /slow waits for release.
type endpoint struct {
	address string
	open    atomic.Int64
	met     atomic.Int64
	release chan struct{}
}

func startEndpoint(t *testing.T, name string) *endpoint {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	e := &endpoint{address: ln.Addr().String(), release: make(chan struct{})}
	s := &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			e.met.Add(1)
			if r.URL.RawQuery == "slow" {
				<-e.release
			}
			_, _ = io.WriteString(w, name)
		}),
		ConnState: func(_ net.Conn, st http.ConnState) {
			switch st {
			case http.StateNew:
				e.open.Add(1)
			case http.StateClosed:
				e.open.Add(-1)
			}
		},
	}
	go func() { _ = s.Serve(ln) }()
	t.Cleanup(func() { _ = s.Close() })
	return e
}
