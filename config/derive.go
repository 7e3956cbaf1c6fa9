package config

import (
	"math"
	"time"
)

// deriveDefaults fills in the defaults that depend on what the file says elsewhere.
func deriveDefaults(r *report, c *Config) {
	for i := range c.Pools {
		p := &c.Pools[i]
		at := child("pools", p.Name)
		if p.Probe != nil {
			deriveProbe(r, p.Probe, child(at, "probe"))
		}
		if !r.wrote(child(child(at, "connections"), "idle")) {
			p.Connections.Idle = min(p.Connections.Idle, p.Connections.Max)
		}
		if p.Outlier != nil {
			deriveEjection(r, p.Outlier, child(at, "outlier"))
		}
		if p.Load != nil {
			deriveLoad(r, p.Load, child(at, "load"))
		}
	}
	for i := range c.Routes {
		route := &c.Routes[i]
		if a := route.Affinity; a != nil && a.Salt == "" {
			a.Salt = route.Name
		}
		if o := route.Rollout; o != nil && len(o.Steps) == 0 && o.Strategy != StrategyAuto {
			o.Steps = o.steps()
		}
		if route.Retry.Attempts == 1 {
			route.Retry = noRetry()
		}
		if route.RateLimit != nil {
			deriveBursts(r, route.RateLimit, item("routes", i)+".rate_limit")
		}
		if c := route.Cache; c != nil && !r.wrote(item("routes", i)+".cache.max_object") {
			c.MaxObject = min(c.MaxObject, c.MaxBytes)
		}
	}
}

func deriveEjection(r *report, o *Outlier, at string) {
	if !r.wrote(child(at, "ejection")) {
		o.Ejection = min(o.Ejection, o.MaxEjection)
	}
	if !r.wrote(child(at, "max_ejection")) {
		o.MaxEjection = max(o.MaxEjection, o.Ejection)
	}
}

func deriveProbe(r *report, p *Probe, at string) {
	if !r.wrote(child(at, "timeout")) {
		p.Timeout = min(p.Timeout, p.Interval)
	}
	if p.Model != "" || p.GRPC != nil {
		p.Path = ""
	}
	if s := p.Startup; s != nil {
		if !r.wrote(at + ".startup.interval") {
			s.Interval = min(p.Interval, time.Second)
		}
		if !r.wrote(at + ".startup.timeout") {
			s.Timeout = min(p.Timeout, s.Interval)
		}
	}
}

// deriveBursts gives each rate the burst of a second.
func deriveBursts(r *report, l *RateLimit, at string) {
	most := float64(maxCount)
	if l.Cost == CostBytes {
		most = maxBurst
	}
	burst := func(rate Rate) int { return int(max(1, min(most, math.Ceil(float64(rate))))) }
	if !r.wrote(at + ".burst") {
		l.Burst = burst(l.Rate)
	}
	if r.wrote(at+".total") && !r.wrote(at+".total.burst") {
		l.TotalBurst = burst(l.Total)
	}
	for i := range l.Tiers {
		if t := &l.Tiers[i]; !r.wrote(child(child(at+".tiers", t.Name), "burst")) {
			t.Burst = burst(t.Rate)
		}
	}
}
