package config

// validateHealthService checks that gRPC can be spoken with the pool's endpoints, and nothing is asked that it does not
// answer.
func validateHealthService(r *report, p *Pool, at string) {
	if p.Probe == nil || p.Probe.GRPC == nil || !r.sound(at) {
		return
	}
	if p.Protocol != ProtocolHTTP2 && r.sound(at+".protocol") {
		r.fault(at+".probe.grpc", "gRPC needs HTTP/2, and this pool has protocol: %s; write protocol: %s, or ask with path", p.Protocol, ProtocolHTTP2)
	}
	for key, given := range map[string]bool{"status": p.Probe.Status != DefaultProbe().Status, "json": len(p.Probe.JSON) > 0} {
		if given {
			r.fault(at+".probe."+key, "has no effect with grpc, whose answer is SERVING or not; leave it out")
		}
	}
}

// validateProbe checks the times of a probe against each other.
func validateProbe(r *report, p *Probe, at string) {
	if p == nil || !r.sound(at) {
		return
	}
	overlap := func(key string, timeout, interval string) {
		r.fault(key, "%s is longer than the interval %s, so that probes would overlap; write at most the interval", timeout, interval)
	}
	if p.Timeout > p.Interval {
		overlap(at+".timeout", FormatDuration(p.Timeout), FormatDuration(p.Interval))
	}
	if s := p.Startup; s != nil {
		if s.Timeout > s.Interval {
			overlap(at+".startup.timeout", FormatDuration(s.Timeout), FormatDuration(s.Interval))
		}
		if s.Budget < s.Interval {
			r.fault(at+".startup.budget", "%s is shorter than the interval %s, so that there would be one probe at most; write more", FormatDuration(s.Budget), FormatDuration(s.Interval))
		}
	}
	if i := p.Inference; i != nil {
		if i.MaxLatency > i.Interval {
			r.fault(at+".inference.max_latency", "%s is longer than the interval %s; write at most the interval", FormatDuration(i.MaxLatency), FormatDuration(i.Interval))
		}
		if i.Tolerance > 0 && len(i.JSON) == 0 {
			r.fault(at+".inference.tolerance", "has no effect without json; leave it out, or write what the answer must have")
		}
	}
}

// validateLoad checks what bounds the requests of a pool.
func validateLoad(r *report, p *Pool, at string) {
	if c := p.Concurrency; c != nil && c.Adaptive != nil && r.sound(at+".concurrency") && c.Adaptive.Min > c.Adaptive.Max {
		r.fault(at+".concurrency.adaptive.min", "%d is more than max %d; write at most max", c.Adaptive.Min, c.Adaptive.Max)
	}
	if b := p.CircuitBreaker; b != nil && r.sound(at+".circuit_breaker") && *b == (CircuitBreaker{}) {
		r.fault(at+".circuit_breaker", "bounds nothing; write max_requests, max_pending or max_retries, or leave it out")
	}
}
