package proxy

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"weir/internal/state"
)

// keptAlive sends n requests for /one over one connection, with a body that comes late if that is above 0.
// stamp is called before the first byte of each, and what it returns with the variant that answered.
func keptAlive(ctx context.Context, address string, n int, late time.Duration, stamp func() func(variant string) error) error {
	c, err := net.Dial("tcp", address)
	if err != nil {
		return err
	}
	defer c.Close()
	answers := bufio.NewReader(c)
	for i := 0; i < n && ctx.Err() == nil; i++ {
		_ = c.SetDeadline(time.Now().Add(10 * time.Second))
		judge := stamp()
		head, body := "GET /one HTTP/1.1\r\nHost: h\r\n\r\n", ""
		if late > 0 {
			head, body = "POST /one HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\n", "abc"
		}
		if _, err := io.WriteString(c, head); err != nil {
			return err
		}
		time.Sleep(late)
		if _, err := io.WriteString(c, body); err != nil {
			return err
		}
		r, err := http.ReadResponse(answers, nil)
		if err != nil {
			return err
		}
		answer, err := io.ReadAll(r.Body)
		if err != nil {
			return err
		}
		variant := r.Header.Get("X-Weir-Variant")
		if r.StatusCode != 200 || variant != string(answer) {
			return fmt.Errorf("%d, variant %q, answered by %q", r.StatusCode, variant, answer)
		}
		if err := judge(variant); err != nil {
			return err
		}
	}
	return nil
}

// TestAShiftWithADrainLosesNoRequest: as a rollback has it. A request may have begun before, and choose its
// endpoint after.
func TestAShiftWithADrainLosesNoRequest(t *testing.T) {
	p := running(t, fleet{
		pools:  [][2]string{{"a", "'" + startEndpoint(t, "a").address + "'"}, {"b", "'" + startEndpoint(t, "b").address + "'"}},
		routes: [][2]string{{"one", "a: 1, b: 0"}},
	}.parse(t))
	address := p.Addrs()[0].String()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var clients sync.WaitGroup
	var met atomic.Int64
	for i := range 32 {
		late := time.Duration(i%4) * time.Millisecond
		clients.Go(func() {
			for ctx.Err() == nil {
				err := keptAlive(ctx, address, 50, late, func() func(string) error {
					return func(string) error { met.Add(1); return nil }
				})
				if err != nil && ctx.Err() == nil {
					t.Error(err)
					return
				}
			}
		})
	}
	n := 0
	for end := time.Now().Add(2 * time.Second); time.Now().Before(end); n++ {
		from, to := "a", "b"
		if n%2 == 1 {
			from, to = to, from
		}
		if _, err := p.Update(Update{Weights: set{"one": {from: 0, to: 1}},
			Drains: []state.DrainChange{drains(from, "", true), drains(to, "", false)}}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Duration(n%5) * time.Millisecond)
	}
	cancel()
	clients.Wait()
	if met.Load() < 200 || n < 20 {
		t.Errorf("only %d requests and %d shifts", met.Load(), n)
	}
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
