package proxy

import (
	"sync"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
)

// clientLive is what is known of the HTTP/2 connections of clients.
type clientLive struct {
	buffers     sync.Pool // what they are read through
	connections atomic.Int64
	streams     atomic.Int64  // requests under way
	begun       atomic.Uint64 // requests
	refused     atomic.Uint64 // streams beyond the limit, which are no requests
	left, reset atomic.Uint64 // streams that the client has reset, and that weir has
	faults      labelCounts   // connections that ended for a fault of the client's, by code
}

func newClientLive() *clientLive {
	return &clientLive{buffers: sync.Pool{New: func() any { b := make([]byte, readSize); return &b }}}
}

// clientMetrics are the metrics of HTTP/2 connections of clients.
type clientMetrics struct{ connections, streams, begun, refused, resets, faults *prometheus.Desc }

func newClientMetrics(d func(name, help string, labels ...string) *prometheus.Desc) clientMetrics {
	return clientMetrics{
		connections: d("http2_connections", "HTTP/2 connections open from clients; weir_connections counts them as well."),
		streams:     d("http2_streams", "Requests under way on HTTP/2 connections from clients."),
		begun:       d("http2_streams_total", "Requests that began on HTTP/2 connections from clients, malformed ones included."),
		refused:     d("http2_refused_total", "Streams of HTTP/2 connections from clients that weir refused, with REFUSED_STREAM, because as many requests as limits.streams allows were under way, or the client reads no answers; they may be sent again."),
		resets:      d("http2_resets_total", "Streams of HTTP/2 connections from clients that did not end with a whole answer, by who ended them: client (or the end of its connection), or weir.", "by"),
		faults:      d("http2_connection_errors_total", "HTTP/2 connections that weir ended for a fault of the client's, by error code; ENHANCE_YOUR_CALM is a flood of frames that bring no request any further.", "code"),
	}
}

func (m *clientMetrics) all() []*prometheus.Desc {
	return []*prometheus.Desc{m.connections, m.streams, m.begun, m.refused, m.resets, m.faults}
}

func (m *clientMetrics) collect(l *clientLive, s samples) {
	s.gauge(m.connections, float64(l.connections.Load()))
	s.gauge(m.streams, float64(l.streams.Load()))
	s.count(m.begun, l.begun.Load())
	s.count(m.refused, l.refused.Load())
	s.count(m.resets, l.left.Load(), "client")
	s.count(m.resets, l.reset.Load(), "weir")
	l.faults.each(func(code string, n uint64) { s.count(m.faults, n, code) })
}
