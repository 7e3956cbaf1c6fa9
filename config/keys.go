package config

import (
	"fmt"
	"io/fs"
	"net/netip"
	"strings"
	"time"
)

// This file is the table of the keys of weir.yaml: what each is called, how its value is
// written, where it lives and what it means. Key texts are sentences: they are the
// descriptions in the schema and the comments in reference.yaml. Defaults are in default.go.

// fileShape is a whole file.
func fileShape() object[Config] {
	return object[Config]{fields: []field[Config]{
		key("engine", choiceShape("engine", Engines()), func(c *Config) *string { return &c.Engine },
			"What client connections are served on: loop is one event loop for each processor (Linux), the cheapest; goroutine is a goroutine for each connection; auto is loop where it can be. A change holds for new connections."),
		key("listeners", listenersShape(), func(c *Config) *[]Listener { return &c.Listeners },
			"The addresses that take client connections.").must(),
		key("trusted_proxies", networksShape(), func(c *Config) *[]netip.Prefix { return &c.TrustedProxies },
			"Networks or single addresses whose X-Forwarded-* fields are believed; unix: is every client on a Unix socket. Empty: nobody's."),
		key("admin", adminShape(), func(c *Config) *Admin { return &c.Admin },
			"The second listener: API, metrics and health."),
		key("state", stateShape(), func(c *Config) *State { return &c.State },
			"What survives a restart: weights, drains, rollouts and history. The word off keeps nothing on disk."),
		key("log", logShape(), func(c *Config) *Log { return &c.Log },
			"What is written where."),
		key("memory", memoryShape(), func(c *Config) *Memory { return &c.Memory },
			"What the process may hold."),
		key("tracing", tracingShape(), func(c *Config) **Tracing { return &c.Tracing },
			"Sends spans of requests to a collector of OpenTelemetry. Absent: there are none, and the trace context of requests (traceparent) goes on as it came."),
		key("pools", poolsShape(), func(c *Config) *[]Pool { return &c.Pools },
			"Named sets of endpoints that run the same version of a model. Names have 1 to 63 of A-Z a-z 0-9 . _ - and show up in metrics, in X-Weir-Variant and in the admin API.").must(),
		key("routes", routesShape(), func(c *Config) *[]Route { return &c.Routes },
			"Which requests go to which split. The longest match wins: exact path, then the longest prefix, then regular expressions in the order of the file; ties go to more conditions, then to the order of the file.").must(),
	}}
}

func listenersShape() shape[[]Listener] {
	identity := func(l *Listener) string { return l.Address }
	return list[Listener]{noun: "listener", least: 1, most: 64, fresh: DefaultListener, identity: identity, sum: sumListener, elem: object[Listener]{fields: []field[Listener]{
		key("address", listenAddressShape(), func(l *Listener) *string { return &l.Address },
			"HOST:PORT; without a host it is every interface, port 0 lets the system choose. Or unix:PATH, a Unix socket at an absolute path of at most 107 bytes: one that nobody listens on any more is replaced, and a clean stop removes it. Its clients have no IP address: unix: stands for it in log and fields, in trusted_proxies, allow and deny.").must(),
		key("mode", socketModeShape(), func(l *Listener) *fs.FileMode { return &l.Mode },
			"The mode of the Unix socket's file, in quotes: who may write to it may connect. Default: \"0660\"."),
		key("protocols", protocolsShape(), func(l *Listener) *[]string { return &l.Protocols },
			"What clients may speak: http1, http2 or both. HTTP/2 begins by ALPN over TLS, by prior knowledge (h2c) without. A change holds for new connections."),
		key("tls", listenerTLSShape(), func(l *Listener) **ListenerTLS { return &l.TLS },
			"Speaks TLS. Who speaks plain HTTP all the same is told so, with 400. Absent: plain HTTP."),
		key("proxy_protocol", boolShape(), func(l *Listener) *bool { return &l.ProxyProtocol },
			"Each connection begins with a header of the PROXY protocol, version 1 or 2, before TLS if any; others are closed. The address in it is the client's, as if it had connected: also for trusted_proxies. It is believed whoever sends it, so that only what sends it should reach the listener. A change holds for new connections."),
		key("timeouts", object[ListenerTimeouts]{fields: []field[ListenerTimeouts]{
			key("header", durationShape(), func(t *ListenerTimeouts) *time.Duration { return &t.Header },
				"For the whole head of a request, from its first byte; then 408."),
			key("body", durationShape(), func(t *ListenerTimeouts) *time.Duration { return &t.Body },
				"Between two reads of a request's body, and between two writes to the client."),
			key("keep_alive", durationShape(), func(t *ListenerTimeouts) *time.Duration { return &t.KeepAlive },
				"For a connection between two requests."),
		}}, func(l *Listener) *ListenerTimeouts { return &l.Timeouts }, "How long a client may take."),
		key("limits", object[ListenerLimits]{fields: []field[ListenerLimits]{
			key("header", headLimitShape(), func(t *ListenerLimits) *Size { return &t.Header },
				"The head of a request, at most 16MiB; larger ones get 431."),
			key("uri", headLimitShape(), func(t *ListenerLimits) *Size { return &t.URI },
				"The target of a request, at most 16MiB; larger ones get 414."),
			key("body", sizeShape(), func(t *ListenerLimits) *Size { return &t.Body },
				"The body of a request; larger ones get 413."),
			key("connections", countShape(1), func(t *ListenerLimits) *int { return &t.Connections },
				"Open connections; further ones wait until one closes."),
			key("streams", countShape(1), func(t *ListenerLimits) *int { return &t.Streams },
				"Requests under way on one HTTP/2 connection; further ones are refused (REFUSED_STREAM). Each may hold 256KiB of its body that has come and was not read yet, all on one connection 1MiB."),
		}}, func(l *Listener) *ListenerLimits { return &l.Limits }, "How much a client may send."),
	}}}
}

// protocolsShape is a list of at least one.
func protocolsShape() shape[[]string] {
	return list[string]{
		noun: "protocol", least: 1, most: len(Protocols()), fresh: func() string { return "" }, elem: choiceShape("protocol", Protocols()),
	}
}

func networksShape() shape[[]netip.Prefix] {
	return list[netip.Prefix]{noun: "network", fresh: func() (p netip.Prefix) { return p }, elem: scalar[netip.Prefix]{
		want: "a network such as 10.0.0.0/8", parse: parseNetwork, format: formatNetwork, body: textSchema,
	}}
}

func adminShape() shape[Admin] {
	return object[Admin]{fields: []field[Admin]{
		key("address", adminAddressShape(), func(a *Admin) *string { return &a.Address },
			"HOST:PORT. Whoever reaches it may change weights, so that any address but a loopback one needs a token_file."),
		key("token_file", pathShape(), func(a *Admin) *string { return &a.TokenFile },
			"The path of a file of tokens, one of which every request but those for /health/ must then bring (Authorization: Bearer). A line a token: TOKEN, or NAME:read:TOKEN or NAME:write:TOKEN; # begins a comment. It is read again when it changes."),
		key("tls", optional[Certificate]{fresh: func() (c Certificate) { return c }, inner: certificateShape()}, func(a *Admin) **Certificate { return &a.TLS },
			"Speaks TLS 1.2 or later. Absent: plain HTTP."),
	}}
}

// certificateShape has both files required: neither is of use alone.
func certificateShape() shape[Certificate] {
	return object[Certificate]{fields: []field[Certificate]{
		key("cert", pathShape(), func(c *Certificate) *string { return &c.Cert },
			"The path of a PEM file: the certificate, then those that lead to its authority. Both files are read again when they change.").must(),
		key("key", pathShape(), func(c *Certificate) *string { return &c.Key },
			"The path of a PEM file: the private key of the certificate.").must(),
	}}
}

func stateShape() shape[State] {
	return orOff[State]{isOff: func(s State) bool { return s.File == "" }, inner: object[State]{fields: []field[State]{
		key("file", pathShape(), func(s *State) *string { return &s.File },
			"The path of the file, relative to the directory of this file. Its directory must be writable: the file is replaced as a whole."),
	}}}
}

func logShape() shape[Log] {
	return object[Log]{fields: []field[Log]{
		key("level", choiceShape("level", Levels()), func(l *Log) *string { return &l.Level },
			"The least severe messages that are written: debug, info, warn or error."),
		key("access", orOff[AccessLog]{
			off: AccessLog{Output: AccessOff}, isOff: func(a AccessLog) bool { return a.Output == AccessOff },
			inner: object[AccessLog]{fields: []field[AccessLog]{
				key("output", outputShape(), func(a *AccessLog) *string { return &a.Output },
					"stdout, stderr, off, or the path of a file, relative to the directory of this file."),
			}},
		}, func(l *Log) *AccessLog { return &l.Access }, "The log with one line a request. The word off turns it off."),
	}}
}

func poolsShape() shape[[]Pool] {
	return named[Pool]{
		noun: "pool", least: 1, fresh: DefaultPool, name: func(p *Pool) *string { return &p.Name },
		check: checkName, pattern: namePattern, sum: sumPool, elem: object[Pool]{either: []string{"endpoints", "discover"}, fields: []field[Pool]{
			key("version", optionalTextShape("a version"), func(p *Pool) *string { return &p.Version },
				"The version of the model, as shown in status and access log."),
			key("endpoints", endpointsShape(), func(p *Pool) *[]Endpoint { return &p.Endpoints },
				"Where the model servers listen: HOST:PORT, or unix:PATH for a Unix socket, or a mapping with address, weight and capacity. Host names are resolved at load and every 10 s; the last good answer is kept. Either endpoints or discover."),
			key("discover", discoverShape(), func(p *Pool) **Discover { return &p.Discover },
				"Finds the endpoints by a name of DNS instead of a list, and again and again, as replicas come and go. What one that is gone is doing it may finish."),
			key("policy", choiceShape("policy", Policies()), func(p *Pool) *string { return &p.Policy },
				policyText),
			key("hash", hashShape(), func(p *Pool) **Hash { return &p.Hash },
				"What the policy hash goes by. Absent: the policy is another one."),
			key("probe", probeShape(), func(p *Pool) **Probe { return &p.Probe },
				"The active health check of every endpoint. The word off turns it off: then an endpoint always counts as healthy."),
			key("outlier", outlierShape(), func(p *Pool) **Outlier { return &p.Outlier },
				"Ejects endpoints that fail requests, so that they get none for a while; a connection that fails or ends, a timeout, broken HTTP and 5xx are failures. The word off turns it off."),
			key("slow_start", pauseShape(0), func(p *Pool) *time.Duration { return &p.SlowStart },
				"How long the weight of an endpoint grows to its own after the endpoint became usable. 0s: it has it at once."),
			key("panic_threshold", percentShape(), func(p *Pool) *float64 { return &p.PanicThreshold },
				"While less than this percentage of the pool's endpoints is not ejected, ejected ones get requests all the same. 0: never."),
			key("load", loadShape(), func(p *Pool) **Signals { return &p.Load },
				"From where weir knows how busy the endpoints are, which their weights follow under the policy utilization: reports on answers, and metrics that are scraped. {} for reports alone. Absent: nobody asks, but under the policy utilization for reports."),
			key("protocol", choiceShape("protocol", Protocols()), func(p *Pool) *string { return &p.Protocol },
				"What is spoken with the endpoints: http1 or http2, which is agreed upon by ALPN over TLS and spoken by prior knowledge (h2c) without. Probes, copies and refreshes speak it as well."),
			key("proxy_protocol", proxyVersionShape(), func(p *Pool) *string { return &p.ProxyProtocol },
				"Tells the endpoints whose connection it is: each begins with a header of the PROXY protocol, v1 or v2, before TLS if any, with the address of the request's client (client_ip) and the one that it connected to. A connection then carries one request and is closed, so that none is ever another client's. Connections of weir's own, for probes and copies, say that they are (LOCAL in v2, UNKNOWN in v1), and so do those of clients on Unix sockets (UNKNOWN). Endpoints that do not expect the header refuse the connection. Not with protocol: http2. The word off: no header. Absent: off."),
			key("tls", poolTLSShape(), func(p *Pool) **PoolTLS { return &p.TLS },
				"Speaks TLS with the endpoints; {} with the authorities of the system. Probes and mirrored copies do, too. Absent: plain HTTP."),
			key("connections", connectionsShape(), func(p *Pool) *Connections { return &p.Connections },
				"The connections kept to each endpoint."),
			key("concurrency", poolConcurrencyShape(), func(p *Pool) **Concurrency { return &p.Concurrency },
				"Bounds the requests under way at the pool. Absent: there is no bound."),
			key("circuit_breaker", circuitBreakerShape(), func(p *Pool) **CircuitBreaker { return &p.CircuitBreaker },
				"Refuses at once, with 503, what would be beyond a bound. Absent: there is none."),
			key("scale", scaleShape(), func(p *Pool) **Scale { return &p.Scale },
				"Says how many replicas the pool should have, for autoscalers that ask (GET /api/v1/scale/POOL, and the metric weir_pool_desired_replicas). weir starts and stops none. Absent: it says only what the pool bears."),
		}},
	}
}

func endpointsShape() shape[[]Endpoint] {
	address := func(e *Endpoint) *string { return &e.Address }
	identity := func(e *Endpoint) string { return e.Address }
	return list[Endpoint]{noun: "endpoint", least: 1, optional: true, fresh: DefaultEndpoint, identity: identity, sum: sumEndpoint, elem: brief[Endpoint]{
		isShort: func(e *Endpoint) bool { return *e == Endpoint{Address: e.Address, Weight: DefaultEndpoint().Weight} },
		short:   part(endpointAddressShape(), address),
		long: object[Endpoint]{fields: []field[Endpoint]{
			key("address", endpointAddressShape(), address, "HOST:PORT, or unix:PATH.").must(),
			key("weight", weightShape(), func(e *Endpoint) *float64 { return &e.Weight },
				"Relative to the other endpoints of the pool; 0 takes no new requests."),
			key("capacity", rateShape(), func(e *Endpoint) *Rate { return &e.Capacity },
				"The rate of requests it bears, as in 200/s, 12000/m or 0.5/s. Absent: not known."),
		}},
	}}
}

func outlierShape() shape[*Outlier] {
	return orOff[*Outlier]{isOff: func(o *Outlier) bool { return o == nil }, inner: optional[Outlier]{
		fresh: DefaultOutlier, inner: object[Outlier]{fields: []field[Outlier]{
			key("consecutive_failures", countShape(0), func(o *Outlier) *int { return &o.ConsecutiveFailures },
				"Failures in a row that eject an endpoint. 0: their number does not matter."),
			key("failure_percent", percentShape(), func(o *Outlier) *float64 { return &o.FailurePercent },
				"Ejects an endpoint when at least this percentage of its requests in an interval failed. 0: it does not matter."),
			key("min_requests", countShape(1), func(o *Outlier) *int { return &o.MinRequests },
				"Requests to an endpoint in an interval from which on it is judged by them: failure_percent, success_deviation, latency_factor."),
			key("success_deviation", factorShape(0.1, 100), func(o *Outlier) *float64 { return &o.SuccessDeviation },
				"Ejects an endpoint whose rate of success in an interval is this many standard deviations below the mean of the pool's other endpoints; 1.9 is usual. 0: it does not matter."),
			key("latency_factor", factorShape(1.1, 1000), func(o *Outlier) *float64 { return &o.LatencyFactor },
				"Ejects an endpoint whose median latency in an interval is more than this many times that of the others, and 2 ms more at least. 0: it does not matter."),
			key("interval", durationShape(), func(o *Outlier) *time.Duration { return &o.Interval },
				"What failure_percent, success_deviation and latency_factor are taken over."),
			key("ejection", durationShape(), func(o *Outlier) *time.Duration { return &o.Ejection },
				"How long the first ejection of an endpoint lasts. Each further one lasts as much longer, until the endpoint was well for as long. max_ejection itself where that is shorter than the default."),
			key("max_ejection", durationShape(), func(o *Outlier) *time.Duration { return &o.MaxEjection },
				"How long an ejection lasts at most. At least ejection, and ejection itself where that is longer than the default."),
			key("max_ejected_percent", percentShape(), func(o *Outlier) *float64 { return &o.MaxEjectedPercent },
				"The percentage of a pool's endpoints that may be ejected at one time; at least one may, the last never."),
		}},
	}}
}

func connectionsShape() shape[Connections] {
	return object[Connections]{fields: []field[Connections]{
		key("max", countShape(1), func(c *Connections) *int { return &c.Max },
			"Open connections to one endpoint."),
		key("idle", countShape(0), func(c *Connections) *int { return &c.Idle },
			"How many of them stay open while idle. At most max, and max itself where that is less than the default."),
		key("connect_timeout", durationShape(), func(c *Connections) *time.Duration { return &c.ConnectTimeout },
			"To establish one."),
		key("streams", countShape(1), func(c *Connections) *int { return &c.Streams },
			"With protocol http2, requests that one connection carries at one time; fewer where the endpoint allows less."),
		key("keepalive", durationShape(), func(c *Connections) *time.Duration { return &c.Keepalive },
			"With protocol http2, how long nothing may come over a connection that carries requests before the endpoint is asked for a sign of life (PING). Idle connections are not asked."),
		key("keepalive_timeout", durationShape(), func(c *Connections) *time.Duration { return &c.KeepaliveTimeout },
			"How long that sign of life may take, and the SETTINGS of a new connection; then the connection is closed, and its requests end as by a reset."),
	}}
}

func routesShape() shape[[]Route] {
	identity := func(r *Route) string { return r.Name }
	return list[Route]{noun: "route", least: 1, fresh: DefaultRoute, identity: identity, sum: sumRoute, reordered: reordered, elem: object[Route]{some: []string{"split", "redirect", "respond"}, fields: []field[Route]{
		key("name", nameShape(), func(r *Route) *string { return &r.Name },
			"The name of the route, unique among routes; written like the name of a pool.").must(),
		key("match", matchShape(), func(r *Route) *Match { return &r.Match },
			"Which requests; every part is optional, all that are given must hold. Without any it is every request."),
		key("split", splitShape(), func(r *Route) *[]Variant { return &r.Split },
			"The variants: pools with their relative weights. Fractions are allowed, to a hundredth of a percent of the sum; 0 takes no new requests. Absent where redirect or respond says what is answered."),
		key("rollout", rolloutShape(), func(r *Route) **Rollout { return &r.Rollout },
			"How weir rollout start proceeds. Absent: as the defaults here say."),
		key("experiment", experimentShape(), func(r *Route) **Experiment { return &r.Experiment },
			"Measures what the variants do to the subjects of affinity who get them. Absent: it is not measured."),
		key("redirect", redirectShape(), func(r *Route) **Redirect { return &r.Redirect },
			"Answers with another place."),
		key("respond", respondShape(), func(r *Route) **Respond { return &r.Respond },
			"Answers without an endpoint."),
		key("allow", accessShape(), func(r *Route) *[]netip.Prefix { return &r.Allow },
			"The networks or addresses whose clients may ask; others get 403. Absent: all."),
		key("deny", accessShape(), func(r *Route) *[]netip.Prefix { return &r.Deny },
			"Those whose clients may not, even where allow has them. Absent: none."),
		key("auth", authShape(), func(r *Route) **Auth { return &r.Auth },
			"Who may ask; others get 401. Where several ways are given, one of them is enough. Absent: everybody."),
		key("cors", corsShape(), func(r *Route) **CORS { return &r.CORS },
			"Lets pages of other origins ask, and answers the questions of their browsers. Absent: that is up to the endpoints."),
		key("affinity", affinityShape(), func(r *Route) **Affinity { return &r.Affinity },
			"Keeps a subject (a user, a tenant) on its variant. Absent: every request is given a variant by chance."),
		key("timeouts", object[RouteTimeouts]{fields: []field[RouteTimeouts]{
			key("total", durationShape(), func(t *RouteTimeouts) *time.Duration { return &t.Total },
				"From the head of the request to the last byte of the answer; of an event stream, or a WebSocket connection, to its head."),
			key("attempt", durationShape(), func(t *RouteTimeouts) *time.Duration { return &t.Attempt },
				"From the request wholly sent to the head of the answer."),
			key("idle", durationShape(), func(t *RouteTimeouts) *time.Duration { return &t.Idle },
				"Between two bytes of the answer; of a WebSocket connection between two bytes either way, and then it is closed."),
			key("header", timeoutHeaderShape(), func(t *RouteTimeouts) *string { return &t.Header },
				"The header in which a client may shorten total (as in 1.5, which is seconds, or 200ms), and in which the endpoint is told what is left of it. The word off turns it off."),
		}}, func(r *Route) *RouteTimeouts { return &r.Timeouts }, "How long a request may take; then 504."),
		key("limits", object[RouteLimits]{fields: []field[RouteLimits]{
			key("body", optional[Size]{fresh: func() Size { return 0 }, inner: sizeShape()}, func(l *RouteLimits) **Size { return &l.Body },
				"The body of a request; larger ones get 413. Absent: the listener's limit alone."),
		}}, func(r *Route) *RouteLimits { return &r.Limits }, "Tighter limits than the listener's."),
		key("retry", retryShape(), func(r *Route) *Retry { return &r.Retry },
			"When a request is sent again, to another endpoint of its variant while there is one. The word off turns it off."),
		key("rate_limit", rateLimitShape(), func(r *Route) **RateLimit { return &r.RateLimit },
			"Refuses the requests of a client beyond a rate, with 429. Absent: there is no limit."),
		key("hedge", hedgeShape(), func(r *Route) **Hedge { return &r.Hedge },
			"Sends a request that may be sent twice to a second endpoint while the first is slow, and takes the faster answer. Absent: it does not."),
		key("concurrency", concurrencyShape(), func(r *Route) **Concurrency { return &r.Concurrency },
			"Bounds the requests under way. Absent: there is no bound."),
		key("priority", priorityShape(), func(r *Route) *Priority { return &r.Priority },
			"The class of requests in queues, the more important first: high, normal or low; or a mapping with the header that says so."),
		key("cache", cacheShape(), func(r *Route) **Cache { return &r.Cache },
			"Answers from what was answered before. Absent: it does not."),
		key("mirror", mirrorShape(), func(r *Route) **Mirror { return &r.Mirror },
			"Sends a copy of some requests to another pool. Absent: none."),
		key("headers", headersEditShape(), func(r *Route) *Headers { return &r.Headers },
			"Changes of header fields, in the order remove, set, add."),
		key("rewrite", rewriteShape(), func(r *Route) **Rewrite { return &r.Rewrite },
			"Changes the path that the endpoint sees. Absent: it sees the client's."),
		key("compress", compressShape(), func(r *Route) **Compress { return &r.Compress },
			"Sends answers compressed to clients that take them so. Absent: as the endpoint sends them."),
		key("websocket", webSocketShape(), func(r *Route) *WebSocket { return &r.WebSocket },
			"The WebSocket connections of the route. The word off: none; a request for one goes to the endpoint as a plain GET."),
		key("stream", object[Stream]{fields: []field[Stream]{
			key("error_event", boolShape(), func(s *Stream) *bool { return &s.ErrorEvent },
				"An event stream that its endpoint breaks off gets a last event of type error, with error, code and request_id as JSON; the answer then ends incomplete all the same. Where the last event from the endpoint is not whole, there is none."),
		}}, func(r *Route) *Stream { return &r.Stream }, "Answers of the type text/event-stream."),
		key("access_log", routeLogShape(), func(r *Route) *RouteLog { return &r.Log },
			"Which of the route's requests are in the access log. The word off: none."),
	}}}
}

func matchShape() shape[Match] {
	return object[Match]{exclusive: []string{"path", "path_prefix", "path_regex", "grpc"}, fields: []field[Match]{
		key("host", hostShape(), func(m *Match) *string { return &m.Host },
			"The host, without port; exact, or *.example.com for every name below example.com."),
		key("path", matchPathShape(parsePath), func(m *Match) *string { return &m.Path },
			"The whole path. At most one of path, path_prefix, path_regex and grpc."),
		key("path_prefix", matchPathShape(parsePathPrefix), func(m *Match) *string { return &m.PathPrefix },
			"How the path begins, in whole segments: /api matches /api and /api/v1, never /apix."),
		key("path_regex", regexpShape(), func(m *Match) **Regexp { return &m.PathRegex },
			"A regular expression (RE2) that is found in the path; ^ and $ bind it to the ends."),
		key("methods", methodsShape(), func(m *Match) *[]string { return &m.Methods },
			"One of these methods, in upper case."),
		key("headers", headersShape(), func(m *Match) *[]Header { return &m.Headers },
			"Header fields that must all be there with exactly this value."),
		key("grpc", grpcMethodShape(), func(m *Match) **Method { return &m.GRPC },
			"A call of gRPC, by what is called; like a path, or, without a method, a path_prefix."),
		key("model", modelNameShape("the name of a model such as fashion"), func(m *Match) *string { return &m.Model },
			"The model that the request is for: by the path of the Open Inference Protocol V2 (/v2/models/fashion/infer), with gRPC by the metadata model-name and model-version or else the first message of ModelInfer, ModelStreamInfer, ModelMetadata, ModelReady, ModelConfig and ModelStatistics, and by the field model of the JSON that is posted to /v1/… or /openai/v1/…. A body is looked into up to 1 MiB, and must come within the listener's timeouts.body. It says what the client does, and is no protection."),
		key("model_version", modelNameShape("the version of a model such as \"2\""), func(m *Match) *string { return &m.ModelVersion },
			"The version of that model, where the request gives one."),
	}}
}

func modelNameShape(want string) shape[string] {
	return scalar[string]{want: want, free: true, optional: true, format: verbatim, body: textSchema, parse: func(s string) (string, error) {
		if s == "" || len(s) > 256 || strings.ContainsFunc(s, control) || s != strings.TrimSpace(s) {
			return "", fmt.Errorf("%q is not %s; write 1 to 256 bytes, as they are in requests", clip(s), want)
		}
		return s, nil
	}}
}

func grpcMethodShape() shape[*Method] {
	name := func(want, pattern string, letters string) scalar[string] {
		return scalar[string]{want: want, format: verbatim, body: func() schema { return orVariable(schema{"type": "string", "pattern": pattern}) }, parse: func(s string) (string, error) {
			for part := range strings.SplitSeq(s, ".") {
				if !only(s, letters) || part == "" || part[0] <= '9' {
					return "", fmt.Errorf("%q is not %s", clip(s), want)
				}
			}
			return s, nil
		}}
	}
	const letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_"
	method := name("the name of a method such as ModelInfer", `^[A-Za-z_][A-Za-z0-9_]*$`, letters)
	method.optional = true
	return optional[Method]{fresh: func() (m Method) { return m }, inner: object[Method]{fields: []field[Method]{
		key("service", shape[string](name("a service with its package such as inference.GRPCInferenceService", `^[A-Za-z_][A-Za-z0-9_]*([.][A-Za-z_][A-Za-z0-9_]*)*$`, letters+".")), func(m *Method) *string { return &m.Service },
			"The service, with its package.").must(),
		key("method", shape[string](method), func(m *Method) *string { return &m.Method },
			"One method of it. Absent: all."),
	}}}
}

func methodsShape() shape[[]string] {
	return list[string]{noun: "method", least: 1, optional: true, fresh: func() string { return "" }, elem: scalar[string]{
		want: "a method such as POST", free: true, parse: parseMethod, format: verbatim, body: textSchema,
	}}
}

func headersShape() shape[[]Header] {
	return named[Header]{
		noun: "header", fresh: func() Header { return Header{} }, name: func(h *Header) *string { return &h.Name },
		check: func(s string) error { return checkToken(s, "header") },
		elem: part[Header](scalar[string]{
			want: "the value of the header", free: true, parse: parseHeaderValue, format: verbatim, body: textSchema,
		}, func(h *Header) *string { return &h.Value }),
	}
}

func splitShape() shape[[]Variant] {
	return named[Variant]{
		noun: "variant", least: 1, fresh: func() Variant { return Variant{} }, name: func(v *Variant) *string { return &v.Pool },
		ordered: true,                              // A and B, and which subjects are whose
		check:   func(string) error { return nil }, // it has to be one of the pools, which is checked later
		elem:    part(weightShape(), func(v *Variant) *float64 { return &v.Weight }),
	}
}

func affinityShape() shape[*Affinity] {
	return optional[Affinity]{fresh: DefaultAffinity, inner: object[Affinity]{fields: []field[Affinity]{
		key("key", affinityKeyShape(), func(a *Affinity) *Affinity { return a },
			"Where the subject is read: header:NAME, cookie:NAME, query:NAME, client_ip, client_cert (with client_ca on a listener), jwt:CLAIM (with auth.jwt) or json:PATH, a field of the body.").must(),
		key("fallback", optionalTextShape("random, client_ip or a variant"), func(a *Affinity) *string { return &a.Fallback },
			"For a request without a subject: random, client_ip, or the name of a variant of the split."),
		key("salt", optionalTextShape("a text"), func(a *Affinity) *string { return &a.Salt },
			"Makes the assignments of two routes independent; the same salt makes them alike. Default: the name of the route."),
	}}}
}
