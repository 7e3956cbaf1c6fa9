package proxy

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"weir/balancer"
	"weir/config"
)

// infer asks the model of an endpoint a question whose answer is known. Like a probe it has a connection of its
// own and counts nowhere: neither as a request nor against the endpoint's outlier detection.
func infer(ctx context.Context, e *balancer.Endpoint, addr balancer.Addr, p config.Probe) error {
	c, err := dialProbe(ctx, e, addr)
	if err != nil {
		return fmt.Errorf("inference: %w", err)
	}
	defer c.end()
	i := p.Inference
	asked := "POST " + i.Path
	began := time.Now() // the model's time, without that of the connection, which requests find open
	resp, err := c.ask(asked+" HTTP/1.1\r\nHost: "+e.Host()+"\r\nUser-Agent: weir-probe\r\nAccept: */*\r\nContent-Type: application/json\r\nContent-Length: "+
		strconv.Itoa(len(i.Body))+"\r\nConnection: close\r\n\r\n"+i.Body, asked, config.StatusRange{Low: 200, High: 299})
	if err != nil {
		return fmt.Errorf("inference: %w", err)
	}
	body, err := readProbe(resp, asked)
	took := time.Since(began)
	if err != nil {
		return fmt.Errorf("inference: %w", err)
	}
	if i.MaxLatency > 0 && took > i.MaxLatency {
		return fmt.Errorf("inference took %s; at most %s", wholeMillis(took), wholeMillis(i.MaxLatency))
	}
	if err := holds(body, i.JSON, i.Tolerance); err != nil {
		return fmt.Errorf("inference: %w", err)
	}
	return nil
}

// wholeMillis is a duration as people compare it, rounded up: what is too long must not read as what is allowed.
func wholeMillis(d time.Duration) string {
	return strconv.FormatInt(int64((d+time.Millisecond-1)/time.Millisecond), 10) + " ms"
}
