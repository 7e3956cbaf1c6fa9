package config

import (
	"math"
	"time"
)

// This file is the only place where a default is written. The decoder starts from these
// values and overwrites what the file says; the schema and reference.yaml show them.

// DefaultConfig is what an empty file would mean if listeners, pools and routes were not required.
func DefaultConfig() Config {
	return Config{Engine: EngineAuto, Admin: DefaultAdmin(), State: DefaultState(), Log: DefaultLog()}
}

// DefaultListener is a listener without an address, which has no default.
func DefaultListener() Listener {
	return Listener{
		Timeouts: ListenerTimeouts{Header: 10 * time.Second, Body: 60 * time.Second, KeepAlive: 60 * time.Second},
		Limits:   ListenerLimits{Header: 64 * KiB, URI: 16 * KiB, Body: 64 * MiB, Connections: 100_000},
	}
}

// DefaultAdmin is the admin listener on loopback.
func DefaultAdmin() Admin { return Admin{Address: "127.0.0.1:9901"} }

// DefaultState is a file beside the configuration.
func DefaultState() State { return State{File: "weir.state.json"} }

// DefaultLog is the log at level info and the access log on standard output.
func DefaultLog() Log { return Log{Level: "info", Access: AccessLog{Output: AccessStdout}} }

// DefaultPool is a pool without name and endpoints, which have no default.
func DefaultPool() Pool {
	probe, outlier := DefaultProbe(), DefaultOutlier()
	return Pool{Policy: DefaultPolicy, Probe: &probe, Outlier: &outlier, Connections: DefaultConnections()}
}

// DefaultPolicy is the balancing policy of a pool that names none.
const DefaultPolicy = "least_request"

// DefaultEndpoint is an endpoint of weight 1 without an address, which has no default.
func DefaultEndpoint() Endpoint { return Endpoint{Weight: 1} }

// DefaultProbe is the active health check of a pool that does not say `probe: off`. A
// file with a shorter interval than the default timeout gets the interval as timeout.
func DefaultProbe() Probe {
	return Probe{
		Path: "/health/ready", Interval: 5 * time.Second, Timeout: time.Second,
		Rise: 2, Fall: 3, Status: StatusRange{200, 299},
	}
}

// DefaultOutlier is the passive health check of a pool that does not say `outlier: off`. Where only one of
// ejection and max_ejection is in the file, the default of the other gives way to it.
func DefaultOutlier() Outlier {
	return Outlier{
		ConsecutiveFailures: 5, MinRequests: 20, Interval: 10 * time.Second,
		Ejection: 30 * time.Second, MaxEjection: 300 * time.Second, MaxEjectedPercent: 50,
	}
}

// DefaultConnections bounds the connections to one endpoint. A file with a smaller max
// than the default idle gets max as idle.
func DefaultConnections() Connections {
	return Connections{Max: 1024, Idle: 128, ConnectTimeout: time.Second}
}

// DefaultRoute is a route without name and split, which have no default. It matches every request.
func DefaultRoute() Route {
	return Route{
		Timeouts: RouteTimeouts{Total: 300 * time.Second, Attempt: 60 * time.Second, Idle: 60 * time.Second},
		Retry:    DefaultRetry(),
	}
}

// DefaultRetry is how a route retries that does not say. It sends nothing twice that may have changed
// something.
func DefaultRetry() Retry {
	return Retry{
		Attempts: 2, On: []string{RetryConnect, RetryReset}, Idempotent: IdempotentAuto,
		BudgetPercent: 20, Backoff: 25 * time.Millisecond,
	}
}

// noRetry is `retry: off`: what is left of a retry says nothing when there is none.
func noRetry() Retry {
	off := DefaultRetry()
	off.Attempts = 1
	return off
}

// DefaultRateLimit is a limit without a rate, which has no default. The burst defaults to what the rate
// allows in a second.
func DefaultRateLimit() RateLimit { return RateLimit{Source: AffinityClientIP} }

// DefaultAffinity is an affinity without a key, which has no default. The salt defaults to
// the route's name.
func DefaultAffinity() Affinity { return Affinity{Fallback: FallbackRandom} }

// deriveDefaults fills in the defaults that depend on what the file says elsewhere.
func deriveDefaults(r *report, c *Config) {
	for i := range c.Pools {
		p := &c.Pools[i]
		at := child("pools", p.Name)
		if p.Probe != nil && !r.wrote(child(child(at, "probe"), "timeout")) {
			p.Probe.Timeout = min(p.Probe.Timeout, p.Probe.Interval)
		}
		if !r.wrote(child(child(at, "connections"), "idle")) {
			p.Connections.Idle = min(p.Connections.Idle, p.Connections.Max)
		}
		if p.Outlier != nil {
			deriveEjection(r, p.Outlier, child(at, "outlier"))
		}
	}
	for i := range c.Routes {
		route := &c.Routes[i]
		if a := route.Affinity; a != nil && a.Salt == "" {
			a.Salt = route.Name
		}
		if route.Retry.Attempts == 1 {
			route.Retry = noRetry()
		}
		if l := route.RateLimit; l != nil && !r.wrote(item("routes", i)+".rate_limit.burst") {
			l.Burst = int(max(1, min(maxCount, math.Ceil(float64(l.Rate)))))
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
