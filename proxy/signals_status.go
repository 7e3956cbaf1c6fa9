package proxy

import (
	"time"

	"weir/balancer"
)

// LoadStatus is what is known of how busy an endpoint is, and what its weight makes of it.
type LoadStatus struct {
	Signals []SignalStatus `json:"signals"`
	// Weighting is absent where weights do not follow load.
	Weighting *WeightingStatus `json:"weighting,omitempty"`
	// Problems are why the last report of an answer, and the last scrape, told nothing; absent where they did.
	Problems map[string]string `json:"problems,omitempty"`
}

// SignalStatus is one figure that an endpoint has reported.
type SignalStatus struct {
	Name   string  `json:"name"`
	Value  float64 `json:"value"`
	Source string  `json:"source"`      // orca, or scrape
	Age    float64 `json:"age_seconds"` // of the report
}

// WeightingStatus is how load has led to a weight, as of the last second.
type WeightingStatus struct {
	Factor float64 `json:"factor"`       // of the configured weight; 1 is the mean of the pool
	Target float64 `json:"target"`       // what Factor moves to
	Full   float64 `json:"full"`         // how full the endpoint is on average, 1 is full; 0 when nothing is known that counts
	By     string  `json:"by,omitempty"` // the signal that says so
	Why    string  `json:"why,omitempty"`
}

// loadStatus is nil where nobody asks for the load of e, and nothing is known of it.
func loadStatus(e *balancer.Endpoint, t *transport) *LoadStatus {
	s := LoadStatus{Signals: []SignalStatus{}, Problems: t.problems(e)}
	for _, k := range e.Reported(time.Now()) {
		s.Signals = append(s.Signals, SignalStatus{Name: k.Signal.String(), Value: k.Value, Source: k.From.String(), Age: k.Age.Seconds()})
	}
	if w, ok := e.Weighting(); ok {
		s.Weighting = &WeightingStatus{Factor: w.Factor, Target: w.Target, Full: w.Full, Why: w.Why}
		if w.Full > 0 {
			s.Weighting.By = w.By.String()
		}
	}
	if len(s.Signals) == 0 && s.Weighting == nil && s.Problems == nil {
		return nil
	}
	return &s
}

// problems are nil where there are none.
func (t *transport) problems(e *balancer.Endpoint) map[string]string {
	var m map[string]string
	note := func(from balancer.Source, why string) {
		if m == nil {
			m = map[string]string{}
		}
		m[from.String()] = why
	}
	if why := t.reports.why.Load(); why != nil {
		note(balancer.FromAnswer, *why)
	}
	if why := e.ScrapeError(); why != "" {
		note(balancer.FromScrape, why)
	}
	return m
}
