package config

import "time"

// Signals says from where weir knows how busy the endpoints of a pool are.
type Signals struct {
	// Preset is the kind of the model server, one of LoadPresets: how its metrics are called, and where they are.
	Preset string
	// Answers asks for a report of its load with every request (ORCA), which the client does not get to see.
	Answers bool
	// Scrape is where the metrics are: a path such as /metrics at the endpoint itself, or with a port in front,
	// such as :8002/metrics, at another port of its host, which then speaks plain HTTP/1.1; "": nowhere.
	Scrape string
	// Interval is the time from one scrape to the next.
	Interval time.Duration
	Timeout  time.Duration // for a scrape as a whole
	MaxBytes Size          // of the metrics
	// Names are families of metrics in the place of those of the preset.
	Names []SignalName
}

// SignalName is the family of metrics that holds one signal.
type SignalName struct {
	Signal string // one of LoadSignals
	Family string
}

// The preset of weir-backend, and of a pool that names none.
const PresetWeir = "weir"

// LoadPresets returns the kinds of model servers whose metrics weir knows, in the order they are documented.
func LoadPresets() []string {
	return []string{PresetWeir, "triton", "vllm", "sglang", "torchserve", "mlserver", "ray", "bentoml", "tf-serving", "dcgm"}
}

// presetScrape is where the metrics of a preset are, where the file does not say. weir-backend reports its load with
// its answers, so that it need not be scraped.
func presetScrape(preset string) string {
	switch preset {
	case PresetWeir:
		return ""
	case "triton":
		return ":8002/metrics"
	case "torchserve", "mlserver":
		return ":8082/metrics"
	case "ray":
		return ":8080/metrics"
	case "tf-serving":
		return ":8501/monitoring/prometheus/metrics"
	case "dcgm":
		return ":9400/metrics"
	}
	return "/metrics"
}

// LoadSignals returns the signals that names may give a family to, in the order they are documented.
func LoadSignals() []string {
	return []string{"utilization", "gpu_utilization", "memory_utilization", "queue_ms", "queue", "in_flight", "in_flight_limit", "rps", "eps"}
}

// DefaultSignals is that of a pool whose load names nothing.
func DefaultSignals() Signals {
	return Signals{Preset: PresetWeir, Answers: true, Interval: time.Second, Timeout: time.Second, MaxBytes: MiB}
}

// AsksForLoad reports whether requests to the pool's endpoints ask for a report of their load.
func (p *Pool) AsksForLoad() bool {
	if p.Load == nil {
		return p.Policy == "utilization"
	}
	return p.Load.Answers
}

func deriveLoad(r *report, l *Signals, at string) {
	if !r.wrote(child(at, "scrape")) {
		l.Scrape = presetScrape(l.Preset)
	}
	if !r.wrote(child(at, "timeout")) {
		l.Timeout = min(l.Timeout, l.Interval)
	}
}

// validateSignals checks that a load says something that has an effect.
func validateSignals(r *report, p *Pool, pool string) {
	l, at := p.Load, child(pool, "load")
	if l == nil || !r.sound(at) {
		return
	}
	if l.Timeout > l.Interval {
		r.fault(child(at, "timeout"), "%s is longer than the interval %s, so that scrapes would overlap; write at most the interval",
			FormatDuration(l.Timeout), FormatDuration(l.Interval))
	}
	if l.Scrape != "" {
		validateScrapedPort(r, p, child(at, "scrape"))
		return
	}
	if !l.Answers {
		r.fault(child(at, "answers"), "is off and nothing is scraped, so that nothing would ever be known; write where the metrics are in scrape, as in /metrics, or leave answers on")
	}
	if len(l.Names) > 0 {
		r.fault(child(at, "names"), "has no effect, because nothing is scraped; write where the metrics are in scrape, as in /metrics")
	}
}

// validateScrapedPort refuses a port of the hosts of endpoints where one is a Unix socket, which has none.
func validateScrapedPort(r *report, p *Pool, at string) {
	if port, _, err := SplitScrape(p.Load.Scrape); err != nil || port == 0 {
		return
	}
	for _, e := range p.Endpoints {
		if _, ok := UnixPath(e.Address); ok {
			r.fault(at, "%s is at another port than the requests, and %s has no ports; write a path alone, as in /metrics", p.Load.Scrape, e.Address)
			return
		}
	}
}
