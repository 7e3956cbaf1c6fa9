package proxy

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/tidwall/gjson"

	"weir/balancer"
	"weir/config"
	"weir/proxy/h2/client"
)

// probe asks an endpoint for its health over a connection of its own: what it tests is also whether
// the endpoint takes connections. It is no request and counts nowhere.
func probe(ctx context.Context, e *balancer.Endpoint, addr balancer.Addr, p config.Probe) error {
	c, err := dialProbe(ctx, e, addr)
	if err != nil {
		return err
	}
	defer c.end()
	asked := p.Asked()
	if p.GRPC != nil {
		return c.check(e, asked, p.GRPC.Name)
	}
	resp, err := c.ask(asked+" HTTP/1.1\r\nHost: "+e.Host()+"\r\nUser-Agent: weir-probe\r\nAccept: */*\r\nConnection: close\r\n\r\n", asked, p.Status)
	if err != nil {
		return err
	}
	if len(p.JSON) == 0 && p.Model == "" {
		return nil // the status is all that counts
	}
	body, err := readProbe(resp, asked)
	if err != nil {
		return err
	}
	if p.Model != "" && gjson.ValidBytes(body) && gjson.GetBytes(body, "ready").Type == gjson.False {
		return fmt.Errorf("%s: ready is false; want true", asked)
	}
	if err := holds(body, p.JSON, 0); err != nil {
		return fmt.Errorf("%s: %w", asked, err)
	}
	return nil
}

// probeConn is the connection of one probe; it ends with the probe's context.
type probeConn struct {
	net.Conn
	stop func() bool
}

// dialProbe opens a connection on which requests and answers are the text of HTTP/1.1, whatever is spoken with e.
func dialProbe(ctx context.Context, e *balancer.Endpoint, addr balancer.Addr) (*probeConn, error) {
	c, err := dialPlain(ctx, addr)
	if err == nil {
		if err := presentOwn(e, c.Conn); err != nil {
			c.stop()
			return nil, err
		}
		if c.Conn, err = secureConn(ctx, e, c.Conn); err != nil {
			c.stop()
			return nil, fmt.Errorf("TLS: %w", err)
		}
	}
	if t, ok := e.Transport.(*transport); err == nil && ok && t.settings.Load().http2 {
		c.Conn = client.New(c.Conn)
	}
	return c, err
}

func dialPlain(ctx context.Context, addr balancer.Addr) (*probeConn, error) {
	c, err := addr.Dial(ctx, new(net.Dialer))
	if err != nil {
		return nil, fmt.Errorf("cannot connect: %w", err)
	}
	if deadline, ok := ctx.Deadline(); ok {
		_ = c.SetDeadline(deadline)
	}
	return &probeConn{Conn: c, stop: context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })}, nil
}

// tryDial tries whether an address takes connections.
func tryDial(ctx context.Context, addr balancer.Addr) error {
	c, err := dialPlain(ctx, addr)
	if err == nil {
		c.end()
	}
	return err
}

func (c *probeConn) end() {
	c.stop()
	_ = c.Close()
}

// ask sends a request, which errors call asked, and returns the answer if its status is one of want. Its body ends
// with the connection and need not be closed: that would read all of one that nobody asked for.
func (c *probeConn) ask(request, asked string, want config.StatusRange) (*http.Response, error) {
	if _, err := io.WriteString(c, request); err != nil {
		return nil, fmt.Errorf("%s: %w", asked, err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(io.LimitReader(c, maxProbeHead+maxProbeBody)), nil)
	if err != nil {
		return nil, fmt.Errorf("%s: no answer: %w", asked, err)
	}
	if !want.Contains(resp.StatusCode) {
		return nil, fmt.Errorf("%s answered %d, want %s", asked, resp.StatusCode, want)
	}
	return resp, nil
}

func readProbe(resp *http.Response, asked string) ([]byte, error) {
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxProbeBody+1))
	if err == nil && len(body) > maxProbeBody {
		err = errors.New("longer than 1 MiB")
	}
	if err != nil {
		return nil, fmt.Errorf("%s: the body of the answer: %w", asked, err)
	}
	return body, nil
}

// What is read of a probe's answer, in bytes.
const (
	maxProbeHead = 64 << 10
	maxProbeBody = 1 << 20
)
