package proxy

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"time"

	"weir/balancer"
	"weir/config"
)

// probe asks an endpoint for its health over a connection of its own: what it tests is also whether
// the endpoint takes connections. It is no request and counts nowhere.
func probe(ctx context.Context, e *balancer.Endpoint, addr netip.AddrPort, p config.Probe) error {
	var d net.Dialer
	c, err := d.DialContext(ctx, "tcp", addr.String())
	if err != nil {
		return fmt.Errorf("cannot connect: %w", err)
	}
	defer func() { _ = c.Close() }()
	if deadline, ok := ctx.Deadline(); ok {
		_ = c.SetDeadline(deadline)
	}
	defer context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })()
	if _, err := fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: weir-probe\r\nAccept: */*\r\nConnection: close\r\n\r\n", p.Path, e.Address); err != nil {
		return fmt.Errorf("GET %s: %w", p.Path, err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(io.LimitReader(c, maxProbeHead)), nil)
	if err != nil {
		return fmt.Errorf("GET %s: no answer: %w", p.Path, err)
	}
	_ = resp.Body.Close()
	if !p.Status.Contains(resp.StatusCode) {
		return fmt.Errorf("GET %s answered %d, want %s", p.Path, resp.StatusCode, p.Status)
	}
	return nil
}

// maxProbeHead bounds what is read of a probe's answer, in bytes: its status is all that counts.
const maxProbeHead = 64 << 10
