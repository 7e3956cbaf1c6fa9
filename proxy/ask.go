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

// Fetch gets a path of every healthy endpoint of a pool, as Ask does, and returns the bodies of the answers, up to 1 MiB
// each. One that does not answer with 200 is an error.
func (p *Proxy) Fetch(ctx context.Context, pool, path string) ([][]byte, error) {
	pl := p.table.Load().pool(pool)
	if pl == nil {
		return nil, fmt.Errorf("pool %s is gone", pool)
	}
	var bodies [][]byte
	for _, e := range pl.Endpoints() {
		if !e.Healthy() {
			continue
		}
		body, err := fetchEndpoint(ctx, e, path)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", e.Address, err)
		}
		bodies = append(bodies, body)
	}
	return bodies, nil
}

func fetchEndpoint(ctx context.Context, e *balancer.Endpoint, path string) ([]byte, error) {
	c, err := dialAny(ctx, e)
	if err != nil {
		return nil, err
	}
	defer c.end()
	asked := "GET " + path
	resp, err := c.ask(asked+" HTTP/1.1\r\nHost: "+e.Host()+"\r\nUser-Agent: weir-probe\r\nAccept: application/json\r\nConnection: close\r\n\r\n", asked, config.StatusRange{Low: 200, High: 200})
	if err != nil {
		return nil, err
	}
	return readProbe(resp, asked)
}

// Peak is the greatest value of a signal among what the endpoints of a pool have reported no longer than age ago, and
// which endpoint has it; false where none has reported it.
func (p *Proxy) Peak(pool string, s balancer.Signal, age time.Duration) (value float64, at string, ok bool) {
	pl := p.table.Load().pool(pool)
	if pl == nil {
		return 0, "", false
	}
	for _, e := range pl.Endpoints() {
		for _, r := range e.Reported(time.Now()) {
			if r.Signal == s && r.Age <= age && (!ok || r.Value > value) {
				value, at, ok = r.Value, e.Address, true
			}
		}
	}
	return value, at, ok
}

func dialAny(ctx context.Context, e *balancer.Endpoint) (*probeConn, error) {
	addrs := e.Addrs()
	if len(addrs) == 0 {
		return nil, errors.New("has no address yet")
	}
	return dialProbe(ctx, e, addrs[0])
}
