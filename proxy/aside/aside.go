// Package aside sends requests that no client waits for: copies to a shadow pool, and what refreshes an
// answer in the background. It runs on goroutines and connections of its own, so that an endpoint that hangs
// takes nothing from the path of a client's request: no loop, no connection, no lock.
//
// Its attempts are real ones at the endpoints of a pool. They are picked by its policy and count as in flight,
// in its figures and for the detection of outliers, like any other.
package aside

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"

	"weir/balancer"
	"weir/config"
)

// Request is what goes to an endpoint.
type Request struct {
	Method string // of Head: it says whether an answer has a body
	// Head and Body are sent as they stand: the head with its empty line, the body with its framing. They must
	// not change until Send has returned.
	Head, Body []byte
	// Timeout bounds the whole exchange, from the connection to the last byte of the answer.
	Timeout time.Duration
	// MaxBody is how much of the answer's body is read. What is longer ends with the connection.
	MaxBody int64
}

// Answer is what came of a request.
type Answer struct {
	Endpoint string
	Outcome  balancer.Outcome
	// Status is 0 where no answer came. Where the outcome is a failure other than balancer.Status, the answer
	// is not complete.
	Status int
	// Header is that of the answer without the fields that concern its connection alone.
	Header http.Header
	Body   []byte // without its framing
	// Whole says that Body is all of it.
	Whole    bool
	Duration time.Duration
	Err      error // why there is no answer
}

// ErrNoEndpoint says that the pool had no usable endpoint: nothing was sent.
var ErrNoEndpoint = errors.New("the pool has no usable endpoint")

// Client sends requests. The zero value is ready.
type Client struct {
	// Secure, where not nil, makes of a new connection to an endpoint what is spoken over. It closes it where it fails.
	Secure func(ctx context.Context, e *balancer.Endpoint, nc net.Conn) (net.Conn, error)

	mu      sync.Mutex // never held for I/O: who calls Go must not wait
	closed  bool
	ctx     context.Context
	cancel  context.CancelFunc
	running sync.WaitGroup
	idle    map[string][]*conn // by the endpoint's protocol and address, newest last
	sweeper *time.Timer        // nil while no connection is idle
}

// Go runs f on a goroutine. Close ends its ctx and waits for it; after that it is not run, and Go returns
// false. It does not wait for anything.
func (c *Client) Go(f func(ctx context.Context)) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return false
	}
	if c.ctx == nil {
		c.ctx, c.cancel = context.WithCancel(context.Background())
	}
	ctx := c.ctx
	c.running.Go(func() { f(ctx) })
	return true
}

// Close breaks off what Go began, waits for it, and closes the idle connections. It is not called by what runs.
func (c *Client) Close() {
	c.mu.Lock()
	c.closed = true
	if c.cancel != nil {
		c.cancel()
	}
	if c.sweeper != nil {
		c.sweeper.Stop()
	}
	idle := c.idle
	c.idle = nil
	c.mu.Unlock()
	for _, list := range idle {
		for _, cn := range list {
			_ = cn.nc.Close()
		}
	}
	c.running.Wait()
}

// Send sends q to an endpoint of the pool and reads the answer. The endpoint learns how the attempt went. Where
// a kept-alive connection turns out to have ended, q is sent once more on a new one; nothing else is tried
// again. It blocks for as long as q.Timeout allows: it is called from what Go runs.
func (c *Client) Send(ctx context.Context, pool *balancer.Pool, q *Request) Answer {
	e := pool.Pick(nil)
	if e == nil {
		return Answer{Outcome: balancer.Canceled, Err: ErrNoEndpoint}
	}
	a := Answer{Endpoint: e.Address, Outcome: balancer.Canceled}
	start := time.Now()
	defer func() { e.Done(a.Outcome, time.Since(start)) }() // also when it panics
	protocol := pool.Config().Protocol
	x := exchange{c: c, q: q, e: e, http2: protocol == config.ProtocolHTTP2, key: connectionKey(pool.Config(), e), deadline: start.Add(q.Timeout), connectTimeout: pool.Config().Connections.ConnectTimeout}
	x.run(ctx, &a)
	a.Duration = time.Since(start)
	return a
}

// connectionKey names the connections to an endpoint that serve requests of the pool.
func connectionKey(c config.Pool, e *balancer.Endpoint) string {
	key := c.Protocol + c.ProxyProtocol + " " + e.Address
	if c.TLS != nil {
		key += fmt.Sprintf(" %+v", *c.TLS)
	}
	return key
}
