package proxy

import (
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"weir/balancer"
	"weir/config"
	"weir/internal/stats"
)

// A WebSocket connection begins as a request (RFC 6455, 4), which goes the way of every request. Where the endpoint
// agrees, by a 101, it becomes a tunnel (tunnel.go); any other answer is an ordinary one. Upgrades to other protocols
// are not passed on: what they would carry nobody here could match, limit or account for.

// upgradeFields ask for a WebSocket connection, or agree to one.
const upgradeFields = "Connection: Upgrade\r\nUpgrade: websocket\r\n"

// asksUpgrade reports whether the client wants a WebSocket connection.
func (r *request) asksUpgrade() bool {
	return r.fields.upgrades && r.fields.websocket && methods[r.method] == "GET" && !r.http10 && r.bodyLeft == 0
}

// agrees reports whether an endpoint's 101 is one that was asked for.
func (p *response) agrees(r *request) bool {
	return r.upgrade && !p.http10 && p.fields.upgrades && equalFold(lookup(r.buf.in[p.at:p.end], "upgrade"), "websocket")
}

// tunnels are what a route's configuration says of WebSocket connections.
type tunnels struct {
	config.WebSocket
	live *tunnelsLive
}

// tunnelsLive are how many there are, with requests for one, and how many were refused. It outlives tables.
type tunnelsLive struct {
	places  atomic.Int64
	refused atomic.Uint64
}

func newTunnels(c config.WebSocket, prev tunnels) tunnels {
	if prev.live == nil {
		prev.live = new(tunnelsLive)
	}
	return tunnels{c, prev.live}
}

// admit gives a request that asks for a tunnel a place, which account takes back.
func (t *tunnels) admit(r *request) kind {
	if t.Off || !r.asksUpgrade() {
		return success
	}
	r.upgrade = true
	if n := t.live.places.Add(1); t.Max > 0 && n > int64(t.Max) {
		t.live.places.Add(-1)
		t.live.refused.Add(1)
		r.in.turn.refused = "too many WebSocket connections are open on this route"
		return shed
	}
	r.place = t.live
	return success
}

// leave takes the place of a request back, if it has one.
func (l *tunnelsLive) leave(r *request) {
	if l != nil {
		l.places.Add(-1)
		r.place = nil
	}
}

// tunnelLive are the figures of a variant's tunnels.
type tunnelLive struct {
	open     atomic.Int64
	in, out  atomic.Uint64 // bytes from and to clients
	duration stats.Histogram
}

// tunnel makes the request a tunnel. The head of the endpoint's 101 and what came behind it are in r.buf.in[:n].
// It returns when the tunnel has ended, or the client is gone before it began.
func (r *request) tunnel(e *epConn, p *response, n int) kind {
	c := r.c
	c.enter(phaseBusy) // a client that has ended its side is not gone
	c.total.Store(0)
	r.status, r.sent = p.status, true
	r.accepted()
	r.buf.out = append(r.appendResponse(r.buf.out[:0], r.buf.in[:p.size], p, framedNone), r.buf.in[p.size:n]...)
	if k := r.toClient(r.buf.out); k != success {
		return k
	}
	r.closing = true
	r.giveBuffers()
	endpoint, live := r.endpoint, &r.variant.live.tunnels
	r.endpoint = nil
	r.took = time.Since(r.began)
	endpoint.Judge(balancer.Attempt{Outcome: balancer.Success, Took: r.took, Rif: r.rif}) // the rest is not of its making alone
	defer endpoint.Leave()
	live.open.Add(1) // until account
	r.tunneled = newTunnel(r, e, live, n-p.size)
	r.tunneled.run(c.strand)
	return success
}

// tunnelMetrics are the metrics of tunnels.
type tunnelMetrics struct{ open, bytes, duration, refused *prometheus.Desc }

func newTunnelMetrics(d func(name, help string, labels ...string) *prometheus.Desc) tunnelMetrics {
	return tunnelMetrics{
		open:     d("websockets", "WebSocket connections that are open.", "route", "variant"),
		bytes:    d("websocket_bytes_total", "Bytes that WebSocket connections have carried, received from clients or sent to them.", "route", "variant", "direction"),
		duration: d("websocket_duration_seconds", "How long WebSocket connections that have ended were open.", "route", "variant"),
		refused:  d("websockets_refused_total", "Requests for a WebSocket connection refused because the route had as many as websocket.max allows.", "route"),
	}
}

func (d *tunnelMetrics) all() []*prometheus.Desc {
	return []*prometheus.Desc{d.open, d.bytes, d.duration, d.refused}
}

// collect takes the variants that have had a tunnel: most have none.
func (d *tunnelMetrics) collect(r *route, s samples) {
	if r.tunnels.Max > 0 {
		s.count(d.refused, r.tunnels.live.refused.Load(), r.cfg.Name)
	}
	for _, v := range r.variants {
		l := &v.live.tunnels
		open := l.open.Load()
		if open == 0 && l.duration.Snapshot().Count() == 0 {
			continue
		}
		s.gauge(d.open, float64(open), v.route, v.pool)
		s.count(d.bytes, l.in.Load(), v.route, v.pool, "received")
		s.count(d.bytes, l.out.Load(), v.route, v.pool, "sent")
		s.histogram(d.duration, &l.duration, v.route, v.pool)
	}
}
