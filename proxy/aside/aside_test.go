package aside_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"weir/backend/backendtest"
	"weir/balancer"
	"weir/config"
	"weir/proxy/aside"
)

const patience = 30 * time.Second

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// pool is one that is not probed.
func pool(t *testing.T, addresses ...string) *balancer.Pool {
	t.Helper()
	c := config.Pool{Name: "shadow", Policy: "round_robin", Connections: config.Connections{ConnectTimeout: time.Second}}
	for _, a := range addresses {
		c.Endpoints = append(c.Endpoints, config.Endpoint{Address: a, Weight: 1})
	}
	return balancer.NewPool(c, nil, balancer.PoolOptions{})
}

func client(t *testing.T) *aside.Client {
	c := new(aside.Client)
	t.Cleanup(c.Close)
	return c
}

func post(body string) *aside.Request {
	return &aside.Request{
		Method: "POST", Head: []byte("POST /predict?x=1 HTTP/1.1\r\nHost: h\r\nX-Odd:  kept \r\nTransfer-Encoding: chunked\r\n\r\n"),
		Body: []byte(body), Timeout: patience, MaxBody: 1 << 20,
	}
}

const chunks = "3\r\nabc\r\n2;x=y\r\nde\r\n0\r\nX-Sum: 42\r\n\r\n"

func TestSendsTheBytesAsTheyAre(t *testing.T) {
	got := make(chan []byte, 1)
	addr := backendtest.Raw(t, func(nc net.Conn) {
		b := make([]byte, 4096)
		n := 0
		for !bytes.HasSuffix(b[:n], []byte("42\r\n\r\n")) {
			m, err := nc.Read(b[n:])
			if err != nil {
				return
			}
			n += m
		}
		got <- b[:n]
		_, _ = io.WriteString(nc, "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 404 No\r\nContent-Length: 2\r\nConnection: X-Hop\r\nX-Hop: 1\r\nX-Kept: 1\r\n\r\nno")
	})
	p, q := pool(t, addr), post(chunks)
	a := client(t).Send(t.Context(), p, q)
	if a.Err != nil || a.Status != 404 || string(a.Body) != "no" || !a.Whole || a.Outcome != balancer.Success || a.Endpoint != addr {
		t.Errorf("answer %+v", a)
	}
	if len(a.Header) != 2 || a.Header.Get("X-Kept") != "1" || a.Header.Get("Content-Length") != "2" {
		t.Errorf("header %v, want X-Kept and Content-Length", a.Header)
	}
	if want := string(q.Head) + chunks; string(<-got) != want {
		t.Errorf("the endpoint did not get the bytes as they are")
	}
	if e := p.Endpoints()[0]; e.Inflight() != 0 || e.OutcomeCount(balancer.Success) != 1 || e.Latency().Count() != 1 {
		t.Errorf("the endpoint's figures: %d in flight, %d successes", e.Inflight(), e.OutcomeCount(balancer.Success))
	}
}

func TestOutcomes(t *testing.T) {
	refusing, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = refusing.Close()
	raw := func(answer string) string {
		return backendtest.NewServer(t, backendtest.Behaviour{Raw: []byte(answer), CloseAfterResponse: true}).Addr()
	}
	server := func(b backendtest.Behaviour) string { return backendtest.NewServer(t, b).Addr() }
	for name, c := range map[string]struct {
		addr    string
		outcome balancer.Outcome
		status  int
	}{
		"ok":             {server(backendtest.Behaviour{Body: []byte("x")}), balancer.Success, 200},
		"chunked":        {server(backendtest.Behaviour{Body: []byte("x"), Chunked: true}), balancer.Success, 200},
		"until close":    {server(backendtest.Behaviour{Body: []byte("x"), UntilClose: true}), balancer.Success, 200},
		"5xx":            {server(backendtest.Behaviour{Status: 503}), balancer.Status, 503},
		"refused":        {refusing.Addr().String(), balancer.Connect, 0},
		"closed":         {server(backendtest.Behaviour{Fault: backendtest.FaultCloseBeforeHead}), balancer.Reset, 0},
		"reset":          {server(backendtest.Behaviour{Fault: backendtest.FaultResetBeforeHead}), balancer.Reset, 0},
		"reset mid body": {server(backendtest.Behaviour{Body: []byte("12345"), Fault: backendtest.FaultResetMidBody, FaultAfter: 2}), balancer.Reset, 200},
		"hangs":          {server(backendtest.Behaviour{Fault: backendtest.FaultHangBeforeHead}), balancer.Timeout, 0},
		"hangs mid body": {server(backendtest.Behaviour{Body: []byte("12345"), Fault: backendtest.FaultHangMidBody, FaultAfter: 2}), balancer.Timeout, 200},
		"garbage":        {raw("SSH-2.0-OpenSSH_9.2\r\n\r\n"), balancer.Protocol, 0},
		"bad length":     {raw("HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n"), balancer.Protocol, 0},
		"bad chunk":      {raw("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"), balancer.Protocol, 200},
		"switches":       {raw("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n"), balancer.Protocol, 0},
		"long head":      {raw("HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 70<<10) + "\r\n\r\n"), balancer.Protocol, 0},
		"1xx for ever":   {raw(strings.Repeat("HTTP/1.1 103 Early Hints\r\n\r\n", 40)), balancer.Protocol, 0},
	} {
		t.Run(name, func(t *testing.T) {
			p, q := pool(t, c.addr), post("0\r\n\r\n")
			if c.outcome == balancer.Timeout {
				q.Timeout = 100 * time.Millisecond
			}
			a := client(t).Send(t.Context(), p, q)
			if a.Outcome != c.outcome || a.Status != c.status {
				t.Errorf("%v, status %d (%v); want %v, %d", a.Outcome, a.Status, a.Err, c.outcome, c.status)
			}
			if fails := c.outcome.Failed() && c.outcome != balancer.Status; fails == (a.Err == nil) {
				t.Errorf("error %v with outcome %v", a.Err, a.Outcome)
			}
			if e := p.Endpoints()[0]; e.Inflight() != 0 || e.OutcomeCount(c.outcome) != 1 || e.Requests() != 1 {
				t.Errorf("the endpoint counts %d attempts, %d of them %v", e.Requests(), e.OutcomeCount(c.outcome), c.outcome)
			}
		})
	}
}

func TestConnectionsAreKept(t *testing.T) {
	s := backendtest.NewServer(t, backendtest.Behaviour{Body: []byte("x")})
	p, c := pool(t, s.Addr()), client(t)
	for range 5 {
		if a := c.Send(t.Context(), p, post("0\r\n\r\n")); a.Status != 200 {
			t.Fatalf("%+v", a)
		}
	}
	if n := s.Counts(); n.Connections != 1 || n.Requests != 5 {
		t.Errorf("%+v, want 5 requests on one connection", n)
	}
	s.Await("the end of the connection", func(n backendtest.Counts) bool { s.CloseIdle(); return n.Open == 0 })
	a := c.Send(t.Context(), p, post("0\r\n\r\n"))
	if n := s.Counts(); a.Status != 200 || n.Connections != 2 || n.Requests != 6 || p.Endpoints()[0].Errors() != 0 {
		t.Errorf("after the connection had ended: %+v, %+v", a, n)
	}
	var all sync.WaitGroup
	s.SetBehaviour(backendtest.Behaviour{Latency: 50 * time.Millisecond})
	for range 20 {
		all.Go(func() { c.Send(t.Context(), p, post("0\r\n\r\n")) })
	}
	all.Wait()
	s.Await("the close of connections beyond 8", func(n backendtest.Counts) bool { return n.Open <= 8 })
	c.Close()
	s.Await("the close of all connections", func(n backendtest.Counts) bool { return n.Open == 0 })
	if a := c.Send(context.Background(), p, post("0\r\n\r\n")); a.Status != 200 {
		t.Errorf("after Close: %+v", a)
	}
	s.Await("a connection that is not kept", func(n backendtest.Counts) bool { return n.Open == 0 })
}

func TestNotKept(t *testing.T) {
	for name, b := range map[string]backendtest.Behaviour{
		"close":       {AnnounceClose: true},
		"extra bytes": {Extra: []byte("HTTP/1.1 200 OK\r\n\r\n"), Body: []byte("x")},
		"too long":    {BodySize: 1 << 20},
	} {
		t.Run(name, func(t *testing.T) {
			s := backendtest.NewServer(t, b)
			p, c, q := pool(t, s.Addr()), client(t), post("0\r\n\r\n")
			q.MaxBody = 1000
			for range 2 {
				if a := c.Send(t.Context(), p, q); a.Status != 200 || a.Whole == (name == "too long") || len(a.Body) > 1000 {
					t.Errorf("status %d, %d bytes, whole: %v (%v)", a.Status, len(a.Body), a.Whole, a.Err)
				}
			}
			if n := s.Counts(); n.Connections != 2 {
				t.Errorf("%d connections, want a new one each time", n.Connections)
			}
		})
	}
}

func TestHeadHasNoBody(t *testing.T) {
	s := backendtest.NewServer(t, backendtest.Behaviour{Body: []byte("12345")})
	p, c := pool(t, s.Addr()), client(t)
	q := &aside.Request{Method: "HEAD", Head: []byte("HEAD / HTTP/1.1\r\nHost: h\r\n\r\n"), Timeout: patience, MaxBody: 10}
	for range 2 {
		if a := c.Send(t.Context(), p, q); a.Status != 200 || len(a.Body) != 0 || !a.Whole {
			t.Errorf("%+v", a)
		}
	}
	if n := s.Counts(); n.Connections != 1 {
		t.Errorf("%d connections", n.Connections)
	}
}

func TestNoEndpoint(t *testing.T) {
	if a := client(t).Send(t.Context(), pool(t), post("")); !errors.Is(a.Err, aside.ErrNoEndpoint) {
		t.Errorf("%+v", a)
	}
}

// TestCloseBreaksOff: what runs ends at once, counts against nobody, and nothing is left behind.
func TestCloseBreaksOff(t *testing.T) {
	s := backendtest.NewServer(t, backendtest.Behaviour{Fault: backendtest.FaultHangBeforeHead})
	p, c := pool(t, s.Addr()), client(t)
	answers := make(chan aside.Answer, 3)
	for range 3 {
		c.Go(func(ctx context.Context) { answers <- c.Send(ctx, p, post("0\r\n\r\n")) })
	}
	s.Await("the requests", func(n backendtest.Counts) bool { return n.Requests == 3 })
	start := time.Now()
	c.Close()
	if d := time.Since(start); d > patience/2 {
		t.Errorf("Close took %v", d)
	}
	for range 3 {
		if a := <-answers; a.Outcome != balancer.Canceled || a.Err == nil {
			t.Errorf("%+v", a)
		}
	}
	if e := p.Endpoints()[0]; e.Inflight() != 0 || e.Errors() != 0 {
		t.Errorf("%d in flight, %d errors", e.Inflight(), e.Errors())
	}
	if c.Go(func(context.Context) { t.Error("ran after Close") }) {
		t.Error("Go returned true after Close")
	}
}
