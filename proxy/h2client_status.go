package proxy

import (
	"github.com/prometheus/client_golang/prometheus"

	"weir/balancer"
)

// http2Metrics are those of HTTP/2 connections to endpoints.
type http2Metrics struct{ streams, dialed, goAways, unprocessed, unanswered *prometheus.Desc }

func newHTTP2Metrics(d func(name, help string, labels ...string) *prometheus.Desc) http2Metrics {
	return http2Metrics{
		streams:     d("endpoint_http2_streams", "Requests under way over HTTP/2 connections to an endpoint.", "pool", "endpoint"),
		dialed:      d("endpoint_http2_connections_total", "HTTP/2 connections that were opened to an endpoint.", "pool", "endpoint"),
		goAways:     d("endpoint_http2_goaways_total", "HTTP/2 connections that an endpoint has ended in an orderly way, with GOAWAY.", "pool", "endpoint"),
		unprocessed: d("endpoint_http2_unprocessed_total", "Requests that an endpoint has not acted upon, because it refused the stream or had said GOAWAY: they were sent again.", "pool", "endpoint"),
		unanswered:  d("endpoint_http2_ping_timeouts_total", "HTTP/2 connections that were closed because the endpoint gave no sign of life.", "pool", "endpoint"),
	}
}

func (m *http2Metrics) all() []*prometheus.Desc {
	return []*prometheus.Desc{m.streams, m.dialed, m.goAways, m.unprocessed, m.unanswered}
}

// collect tells of an endpoint with which HTTP/2 is spoken, or was.
func (m *http2Metrics) collect(e *balancer.Endpoint, s samples) {
	t := e.Transport.(*transport)
	if !t.settings.Load().http2 && t.http2.dialed.Load() == 0 {
		return
	}
	s.gauge(m.streams, float64(t.streams()), e.Pool, e.Address)
	s.count(m.dialed, t.http2.dialed.Load(), e.Pool, e.Address)
	s.count(m.goAways, t.http2.goAways.Load(), e.Pool, e.Address)
	s.count(m.unprocessed, t.http2.refused.Load(), e.Pool, e.Address)
	s.count(m.unanswered, t.http2.unanswered.Load(), e.Pool, e.Address)
}

// streamStatus is how many requests are under way over HTTP/2; nil where it is not spoken.
func (t *transport) streamStatus() *int {
	if !t.settings.Load().http2 {
		return nil
	}
	n := t.streams()
	return &n
}
