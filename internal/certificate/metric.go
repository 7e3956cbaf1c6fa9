package certificate

import "github.com/prometheus/client_golang/prometheus"

// collector exports when the certificates in use expire.
type collector struct {
	watchers func() []*Watcher
	expiry   *prometheus.Desc
}

// NewCollector exports weir_certificate_expiry_timestamp_seconds for the watchers that the function
// returns at the time of a scrape, so that certificates may come and go with a reload. There is one
// collector for all: two of them would describe the same metric.
func NewCollector(watchers func() []*Watcher) prometheus.Collector {
	return &collector{watchers: watchers, expiry: prometheus.NewDesc("weir_certificate_expiry_timestamp_seconds",
		"When the certificate in force expires, in seconds since 1970.", []string{"file"}, nil)}
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(out chan<- *prometheus.Desc) { out <- c.expiry }

// Collect implements prometheus.Collector. A file that serves two listeners is one series.
func (c *collector) Collect(out chan<- prometheus.Metric) {
	seen := map[string]bool{}
	for _, w := range c.watchers() {
		if w == nil || seen[w.File()] {
			continue
		}
		seen[w.File()] = true
		out <- prometheus.MustNewConstMetric(c.expiry, prometheus.GaugeValue, float64(w.NotAfter().Unix()), w.File())
	}
}
