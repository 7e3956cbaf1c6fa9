package rollouts

import (
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// service is the median of the time that the old version takes; it is spread log-normally.
const (
	service = 4 * time.Millisecond
	sigma   = 0.5
	// tide is how long the load that both versions share takes to come back to where it was.
	tide = 40 * time.Second
)

// pods are the model servers of both versions. What they do depends on the route, which is in the path.
type pods struct {
	stable, canary string // their addresses
	began          time.Time
	cases          []atomic.Pointer[Case] // by route
	last           []atomic.Int64         // when a request of the route last came to the new version, UnixNano
	servers        []*http.Server
	serving        sync.WaitGroup
}

func startPods(routes int) (*pods, error) {
	p := &pods{began: time.Now(), cases: make([]atomic.Pointer[Case], routes), last: make([]atomic.Int64, routes)}
	for _, version := range []struct {
		address *string
		canary  bool
	}{{&p.stable, false}, {&p.canary, true}} {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			p.stop()
			return nil, err
		}
		*version.address = ln.Addr().String()
		server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { p.serve(w, r, version.canary) })}
		p.servers = append(p.servers, server)
		p.serving.Go(func() { _ = server.Serve(ln) })
	}
	return p, nil
}

func (p *pods) stop() {
	for _, s := range p.servers {
		_ = s.Close()
	}
	p.serving.Wait()
}

// common is by how much the errors and the latencies of both versions are more than usual now.
func (p *pods) common(now time.Time) float64 {
	return 0.4 + 1.2*math.Abs(math.Sin(math.Pi*now.Sub(p.began).Seconds()/tide.Seconds()))
}

func (p *pods) serve(w http.ResponseWriter, r *http.Request, canary bool) {
	now := time.Now()
	route, err := strconv.Atoi(strings.TrimPrefix(strings.SplitN(r.URL.Path, "/", 3)[1], "r"))
	if err != nil || route >= len(p.cases) {
		http.NotFound(w, r)
		return
	}
	c := p.cases[route].Load()
	if c == nil {
		c = &Case{Ratio: 1, Slower: 1}
	}
	errors, slower := c.Errors, 1.0
	if canary {
		p.last[route].Store(now.UnixNano())
		errors, slower = c.Errors*c.Ratio, c.Slower
	}
	load := p.common(now)
	time.Sleep(time.Duration(float64(service) * load * slower * math.Exp(sigma*rand.NormFloat64())))
	if rand.Float64() < errors*load {
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	_, _ = io.WriteString(w, `{"prediction":3}`)
}

// load sends requests to all routes, as fast as answers come, until what it returns is called.
func (s *stage) load(address string) (stop func()) {
	transport := &http.Transport{MaxIdleConnsPerHost: s.o.Clients}
	client := &http.Client{Transport: transport, Timeout: 30 * time.Second}
	done := make(chan struct{})
	var running sync.WaitGroup
	for range s.o.Clients {
		running.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				resp, err := client.Get(fmt.Sprintf("http://%s/%s/predict", address, routeName(rand.IntN(s.o.AtOnce))))
				if err != nil {
					time.Sleep(10 * time.Millisecond) // weir is stopping, or the machine is out of something
					continue
				}
				_, _ = io.Copy(io.Discard, resp.Body)
				_ = resp.Body.Close()
			}
		})
	}
	return func() {
		close(done)
		running.Wait()
		transport.CloseIdleConnections()
	}
}
