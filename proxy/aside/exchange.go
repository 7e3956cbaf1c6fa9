package aside

import (
	"bufio"
	"context"
	"errors"
	"io"
	"math"
	"net"
	"net/http"
	"strings"
	"time"

	"weir/balancer"
	"weir/proxy/h2/client"
)

const (
	maxHead    = 64 << 10 // of an answer, in bytes
	maxInterim = 32       // 1xx answers
)

var (
	errLongHead   = errors.New("the answer's head is longer than 64 KiB")
	errInterim    = errors.New("too many interim answers")
	errSwitch     = errors.New("the endpoint switches protocols unasked")
	errUnresolved = errors.New("the endpoint's name has no address yet")
)

// exchange is one attempt at an endpoint.
type exchange struct {
	c              *Client
	q              *Request
	e              *balancer.Endpoint
	http2          bool
	key            string // of the connections that serve
	deadline       time.Time
	connectTimeout time.Duration
}

// run makes the attempt, on a kept-alive connection if there is one.
func (x *exchange) run(ctx context.Context, a *Answer) {
	cn := x.c.take(x.key)
	for {
		reused := cn != nil
		if !reused {
			var err error
			if cn, err = x.dial(ctx); err != nil {
				a.Outcome, a.Err = balancer.Connect, err
				if ctx.Err() != nil {
					a.Outcome = balancer.Canceled
				}
				return
			}
		}
		err := x.on(ctx, cn, a)
		if err == nil {
			return
		}
		_ = cn.nc.Close()
		if reused && cn.got == 0 && ended(err) && ctx.Err() == nil {
			cn = nil
			continue
		}
		a.Outcome, a.Err = outcome(err), err
		if ctx.Err() != nil {
			a.Outcome = balancer.Canceled
		}
		return
	}
}

// on sends the request on a connection and reads the answer.
func (x *exchange) on(ctx context.Context, cn *conn, a *Answer) error {
	cn.got, cn.left = 0, maxHead
	if err := cn.nc.SetDeadline(x.deadline); err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = cn.nc.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	pieces := net.Buffers{x.q.Head, x.q.Body}
	_, unsent := pieces.WriteTo(cn.nc)
	// An endpoint that stops reading may have answered.
	resp, err := x.head(cn)
	if err != nil {
		if unsent != nil && cn.got == 0 {
			return unsent
		}
		return err
	}
	cn.left = math.MaxInt64 // the body is bounded by what is read of it
	a.Status, a.Header = resp.StatusCode, resp.Header
	body, err := io.ReadAll(io.LimitReader(resp.Body, x.q.MaxBody+1))
	if err != nil {
		return err
	}
	if a.Outcome = balancer.Success; a.Status >= 500 {
		a.Outcome = balancer.Status
	}
	if a.Whole = int64(len(body)) <= x.q.MaxBody; !a.Whole {
		body = body[:x.q.MaxBody]
	}
	a.Body = body
	if !stop() {
		// The deadline is, or will be, the one that ended ctx.
		_ = cn.nc.Close()
	} else if a.Whole && unsent == nil && !resp.Close && cn.br.Buffered() == 0 {
		x.c.keep(x.key, cn)
	} else {
		_ = cn.nc.Close()
	}
	ownHop(a.Header)
	return nil
}

// head reads the head of the final answer.
func (x *exchange) head(cn *conn) (*http.Response, error) {
	for range maxInterim {
		resp, err := http.ReadResponse(cn.br, &http.Request{Method: x.q.Method})
		switch {
		case err != nil:
			return nil, err
		case resp.StatusCode == http.StatusSwitchingProtocols:
			return nil, errSwitch
		case resp.StatusCode >= 200:
			return resp, nil
		}
	}
	return nil, errInterim
}

// dial opens a connection to one of the endpoint's addresses.
func (x *exchange) dial(ctx context.Context) (*conn, error) {
	until := x.deadline
	if x.connectTimeout > 0 {
		until = earlier(until, time.Now().Add(x.connectTimeout))
	}
	err := error(errUnresolved)
	for _, a := range x.e.Addrs() {
		d := net.Dialer{Deadline: until}
		var nc net.Conn
		if nc, err = a.Dial(ctx, &d); err == nil {
			if x.c.Secure != nil {
				if nc, err = x.secure(ctx, nc, until); err != nil {
					continue
				}
			}
			if x.http2 {
				nc = client.New(nc)
			}
			return newConn(nc), nil
		}
	}
	return nil, err
}

func (x *exchange) secure(ctx context.Context, nc net.Conn, until time.Time) (net.Conn, error) {
	ctx, cancel := context.WithDeadline(ctx, until)
	defer cancel()
	return x.c.Secure(ctx, x.e, nc)
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// ended reports whether err says that the endpoint has closed the connection.
func ended(err error) bool {
	if err, ok := errors.AsType[net.Error](err); ok && err.Timeout() {
		return false
	}
	_, op := errors.AsType[*net.OpError](err)
	return op || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed)
}

// outcome is what an attempt counts as that failed once there was a connection.
func outcome(err error) balancer.Outcome {
	if t, ok := errors.AsType[net.Error](err); ok && t.Timeout() {
		return balancer.Timeout
	}
	if ended(err) {
		return balancer.Reset
	}
	return balancer.Protocol
}

// ownHop takes out the fields that concern one connection alone.
func ownHop(h http.Header) {
	for _, list := range h["Connection"] {
		for name := range strings.SplitSeq(list, ",") {
			h.Del(strings.TrimSpace(name))
		}
	}
	for _, name := range []string{"Connection", "Keep-Alive", "Proxy-Authenticate", "Proxy-Connection", "Te", "Trailer", "Transfer-Encoding", "Upgrade"} {
		delete(h, name)
	}
}

// conn is a connection to an endpoint.
type conn struct {
	nc    net.Conn
	br    *bufio.Reader
	got   int64 // read since the request was sent
	left  int64 // that may be read
	since time.Time
}

func newConn(nc net.Conn) *conn {
	cn := &conn{nc: nc}
	cn.br = bufio.NewReader(cn)
	return cn
}

// Read bounds what an endpoint can have weir keep of a head.
func (cn *conn) Read(p []byte) (int, error) {
	if cn.left <= 0 {
		return 0, errLongHead
	}
	n, err := cn.nc.Read(p[:min(int64(len(p)), cn.left)])
	cn.got += int64(n)
	cn.left -= int64(n)
	return n, err
}
