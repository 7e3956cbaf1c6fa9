package proxy

import (
	"github.com/prometheus/client_golang/prometheus"

	"weir/internal/certificate/acme"
)

// tlsMetrics are those of TLS.
type tlsMetrics struct{ failed, orders *prometheus.Desc }

func newTLSMetrics(d func(name, help string, labels ...string) *prometheus.Desc) tlsMetrics {
	return tlsMetrics{
		failed: d("tls_handshakes_failed_total", "TLS handshakes with clients that failed: timeout, closed by the client, plain_http instead of TLS, no_certificate yet for the name (acme), or failed for what one of the sides refused.", "reason"),
		orders: d("acme_orders_total", "Orders of certificates (acme), by outcome: obtained, renewed, failed.", "domain", "outcome"),
	}
}

func (m *tlsMetrics) all() []*prometheus.Desc { return []*prometheus.Desc{m.failed, m.orders} }

func (m *tlsMetrics) collect(p *Proxy, s samples) {
	p.handshakes.each(func(reason string, n uint64) { s.count(m.failed, n, reason) })
	orders := map[[2]string]uint64{}
	for _, source := range p.table.Load().sources {
		if d, ok := source.(*acme.Domain); ok {
			for outcome, n := range d.Outcomes() {
				orders[[2]string{d.Name(), outcome}] += n // two listeners may have it of two authorities
			}
		}
	}
	for of, n := range orders {
		s.count(m.orders, n, of[0], of[1])
	}
}
