package config

import "time"

// This file is the only place where a default is written. The decoder starts from these
// values and overwrites what the file says; the schema and reference.yaml show them.

// DefaultConfig is what an empty file would mean if listeners, pools and routes were not required.
func DefaultConfig() Config {
	return Config{Engine: EngineAuto, Admin: DefaultAdmin(), State: DefaultState(), Log: DefaultLog(), Memory: DefaultMemory()}
}

// DefaultListener is a listener without an address, which has no default.
func DefaultListener() Listener {
	return Listener{
		Protocols: Protocols(),
		Timeouts:  ListenerTimeouts{Header: 10 * time.Second, Body: 60 * time.Second, KeepAlive: 60 * time.Second},
		Limits:    ListenerLimits{Header: 64 * KiB, URI: 16 * KiB, Body: 64 * MiB, Connections: 100_000, Streams: 128},
	}
}

// DefaultListenerTLS is TLS without certificates, which have no default.
func DefaultListenerTLS() ListenerTLS { return ListenerTLS{MinVersion: "1.2"} }

// DefaultPoolTLS trusts the authorities of the system, and checks the names of the endpoints.
func DefaultPoolTLS() PoolTLS { return PoolTLS{MinVersion: "1.2"} }

// DefaultAdmin is the admin listener on loopback.
func DefaultAdmin() Admin { return Admin{Address: "127.0.0.1:9901"} }

// DefaultState is a file beside the configuration.
func DefaultState() State { return State{File: "weir.state.json"} }

// DefaultLog is the log at level info and the access log on standard output.
func DefaultLog() Log { return Log{Level: "info", Access: AccessLog{Output: AccessStdout}} }

// DefaultMemory is no limit.
func DefaultMemory() Memory { return Memory{KeepAlivePercent: 80} }

// DefaultPool is a pool without name and endpoints, which have no default.
func DefaultPool() Pool {
	probe, outlier := DefaultProbe(), DefaultOutlier()
	return Pool{Policy: DefaultPolicy, Probe: &probe, Outlier: &outlier, Protocol: ProtocolHTTP1, Connections: DefaultConnections()}
}

// DefaultHash is a hash without a key, which has no default.
func DefaultHash() Hash { return Hash{MaxLoad: 125} }

// DefaultPolicy is the balancing policy of a pool that names none: that which keeps the tail shortest where endpoints are
// unequal, and loses nothing where they are alike (docs/balancing.md).
const DefaultPolicy = "prequal"

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
	return Connections{
		Max: 1024, Idle: 128, ConnectTimeout: time.Second,
		Streams: 100, Keepalive: 30 * time.Second, KeepaliveTimeout: 10 * time.Second,
	}
}

// DefaultRoute is a route without name and split, which have no default. It matches every request.
func DefaultRoute() Route {
	return Route{
		Timeouts: RouteTimeouts{Total: 300 * time.Second, Attempt: 60 * time.Second, Idle: 60 * time.Second, Header: "X-Request-Timeout"},
		Retry:    DefaultRetry(),
		Stream:   Stream{ErrorEvent: true},
		Priority: Priority{Class: PriorityNormal},
		Log:      DefaultRouteLog(),
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
func DefaultRateLimit() RateLimit {
	return RateLimit{Source: AffinityClientIP, Cost: CostRequests, MaxKeys: 1 << 18}
}

// DefaultAffinity is an affinity without a key, which has no default. The salt defaults to
// the route's name.
func DefaultAffinity() Affinity { return Affinity{Fallback: FallbackRandom} }

// DefaultInference is a synthetic request without path and body, which have no default.
func DefaultInference() Inference { return Inference{Interval: 30 * time.Second} }

// DefaultQueue is no queue; one that has a size has the rest from here.
func DefaultQueue() Queue { return Queue{Order: QueueFIFO, Timeout: 5 * time.Second} }

// DefaultConcurrency bounds nothing yet.
func DefaultConcurrency() Concurrency { return Concurrency{Queue: DefaultQueue()} }

// DefaultAdaptive is how the concurrency of a pool is found.
func DefaultAdaptive() Adaptive {
	return Adaptive{
		Min: 4, Max: 1000, Percentile: 90, Tolerance: 100, Interval: 100 * time.Millisecond, Remeasure: 60 * time.Second,
	}
}

// DefaultHedge is what `hedge: {}` says.
func DefaultHedge() Hedge { return Hedge{Percentile: 95, BudgetPercent: 5} }

// DefaultCache is a cache without ttl, which has no default. A file with a smaller max_bytes than the default
// max_object gets max_bytes as max_object.
func DefaultCache() Cache {
	return Cache{
		MaxBytes: 64 * MiB, MaxObject: MiB, Methods: []string{"GET", "HEAD"}, Credentials: CacheSeparate, Coalesce: true,
	}
}

// DefaultMirror is a mirror without pool and percent, which have no default.
func DefaultMirror() Mirror {
	compare := DefaultCompare()
	return Mirror{MaxActive: 16, MaxBody: MiB, Timeout: 10 * time.Second, Compare: &compare}
}

// DefaultCompare is what `compare: true` says. The tolerance is about what float32 leaves of a sum.
func DefaultCompare() Compare { return Compare{Tolerance: 1e-6, Samples: 20} }

// DefaultRedirect is a redirect without a place. The status keeps method and body.
func DefaultRedirect() Redirect { return Redirect{Status: 308} }

// DefaultRespond is an empty answer.
func DefaultRespond() Respond { return Respond{Status: 200} }

// DefaultCompress is what `compress: {}` says.
func DefaultCompress() Compress {
	return Compress{Encodings: []string{"zstd", "br", "gzip"}, Types: []string{"application/json", "text/*"}, MinSize: KiB}
}

// DefaultBasicAuth asks without a file, which has no default.
func DefaultBasicAuth() BasicAuth { return BasicAuth{Realm: "weir"} }

// DefaultAPIKeyAuth asks without a file, which has no default.
func DefaultAPIKeyAuth() APIKeyAuth { return APIKeyAuth{Header: "X-API-Key"} }

// DefaultJWTAuth asks without keys, issuer and audience, which have no default.
func DefaultJWTAuth() JWTAuth {
	return JWTAuth{Refresh: 5 * time.Minute, Algorithms: []string{"RS256", "ES256", "EdDSA"}, Leeway: 30 * time.Second}
}

// DefaultCORS lets nobody ask yet: origins have no default.
func DefaultCORS() CORS {
	return CORS{Methods: []string{"GET", "POST"}, Headers: []string{"Content-Type"}, MaxAge: 10 * time.Minute}
}

// DefaultRouteLog logs every request.
func DefaultRouteLog() RouteLog { return RouteLog{Percent: 100} }
