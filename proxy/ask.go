package proxy

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"weir/balancer"
	"weir/config"
)

// Ask makes a request to every endpoint of a pool, over connections of its own, and returns what is wrong with the first
// answer that is not as expected. Like a probe it counts nowhere.
func (p *Proxy) Ask(ctx context.Context, pool string, q config.RolloutRequest) error {
	pl := p.table.Load().pool(pool)
	if pl == nil {
		return fmt.Errorf("pool %s is gone", pool)
	}
	for _, e := range pl.Endpoints() {
		if err := askEndpoint(ctx, e, q); err != nil {
			return fmt.Errorf("%s: %w", e.Address, err)
		}
	}
	return nil
}

// askEndpoint makes one request over a connection of its own. The time that the answer takes is the model's, without
// that of the connection, which requests find open.
func askEndpoint(ctx context.Context, e *balancer.Endpoint, q config.RolloutRequest) error {
	asked, rest := "GET "+q.Path, ""
	if q.Body != "" {
		asked, rest = "POST "+q.Path, "Content-Type: application/json\r\nContent-Length: "+strconv.Itoa(len(q.Body))+"\r\n"
	}
	c, err := dialAny(ctx, e)
	if err != nil {
		return err
	}
	defer c.end()
	began := time.Now()
	resp, err := c.ask(asked+" HTTP/1.1\r\nHost: "+e.Host()+"\r\nUser-Agent: weir-probe\r\nAccept: */*\r\n"+rest+"Connection: close\r\n\r\n"+q.Body, asked, q.Status)
	if err != nil {
		return err
	}
	var body []byte
	if q.Body != "" || len(q.JSON)+len(q.Shape) > 0 { // of a page such as /metrics, however long, the status is all that counts
		if body, err = readProbe(resp, asked); err != nil {
			return err
		}
	}
	took := time.Since(began)
	if q.MaxLatency > 0 && took > q.MaxLatency {
		return fmt.Errorf("%s took %s; at most %s", asked, wholeMillis(took), wholeMillis(q.MaxLatency))
	}
	if err := holds(body, q.JSON, q.Tolerance); err != nil {
		return fmt.Errorf("%s: %w", asked, err)
	}
	if err := formed(body, q.Shape); err != nil {
		return fmt.Errorf("%s: %w", asked, err)
	}
	return nil
}

func dialAny(ctx context.Context, e *balancer.Endpoint) (*probeConn, error) {
	addrs := e.Addrs()
	if len(addrs) == 0 {
		return nil, errors.New("has no address yet")
	}
	return dialProbe(ctx, e, addrs[0])
}
