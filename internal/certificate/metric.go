package certificate

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Served is a certificate in use.
type Served interface {
	// File is where it is kept, which names it in metrics.
	File() string
	// NotAfter is when it expires; zero: there is none yet.
	NotAfter() time.Time
	// Refresh has the file looked at now, for file systems that tell of no change.
	Refresh()
}

// collector exports when the certificates in use expire.
type collector struct {
	served func() []Served
	expiry *prometheus.Desc
}

// NewCollector exports weir_certificate_expiry_timestamp_seconds for the certificates that the function
// returns at the time of a scrape, so that certificates may come and go with a reload. There is one
// collector for all: two of them would describe the same metric.
func NewCollector(served func() []Served) prometheus.Collector {
	return &collector{served: served, expiry: prometheus.NewDesc("weir_certificate_expiry_timestamp_seconds",
		"When the certificate in force expires, in seconds since 1970.", []string{"file"}, nil)}
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(out chan<- *prometheus.Desc) { out <- c.expiry }

// Collect implements prometheus.Collector. A file that serves two listeners is one series.
func (c *collector) Collect(out chan<- prometheus.Metric) {
	seen := map[string]bool{}
	for _, w := range c.served() {
		if seen[w.File()] || w.NotAfter().IsZero() {
			continue
		}
		seen[w.File()] = true
		out <- prometheus.MustNewConstMetric(c.expiry, prometheus.GaugeValue, float64(w.NotAfter().Unix()), w.File())
	}
}
