package config

import (
	"net/netip"
	"time"
)

// This file is the table of the keys of weir.yaml: what each is called, how its value is
// written, where it lives and what it means. Key texts are sentences: they are the
// descriptions in the schema and the comments in reference.yaml. Defaults are in default.go.

// fileShape is a whole file.
func fileShape() object[Config] {
	return object[Config]{fields: []field[Config]{
		key("engine", choiceShape("engine", Engines()), func(c *Config) *string { return &c.Engine },
			"What client connections are served on: loop is one event loop for each processor (Linux, HTTP/1.1 without TLS), the cheapest; goroutine is a goroutine for each connection; auto is loop where it can be. A change holds for new connections."),
		key("listeners", listenersShape(), func(c *Config) *[]Listener { return &c.Listeners },
			"The addresses that take client connections.").must(),
		key("trusted_proxies", networksShape(), func(c *Config) *[]netip.Prefix { return &c.TrustedProxies },
			"Networks or single addresses whose X-Forwarded-* fields are believed. Empty: nobody's."),
		key("admin", adminShape(), func(c *Config) *Admin { return &c.Admin },
			"The second listener: API, metrics and health."),
		key("state", stateShape(), func(c *Config) *State { return &c.State },
			"What survives a restart: weights, drains, rollouts and history. The word off keeps nothing on disk."),
		key("log", logShape(), func(c *Config) *Log { return &c.Log },
			"What is written where."),
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
			"HOST:PORT; without a host it is every interface, port 0 lets the system choose.").must(),
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
		}}, func(l *Listener) *ListenerLimits { return &l.Limits }, "How much a client may send."),
	}}}
}

func networksShape() shape[[]netip.Prefix] {
	return list[netip.Prefix]{noun: "network", fresh: func() (p netip.Prefix) { return p }, elem: scalar[netip.Prefix]{
		want: "a network such as 10.0.0.0/8", parse: parseNetwork, format: formatNetwork, body: textSchema,
	}}
}

func adminShape() shape[Admin] {
	return object[Admin]{fields: []field[Admin]{
		key("address", listenAddressShape(), func(a *Admin) *string { return &a.Address },
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
		check: checkName, pattern: namePattern, sum: sumPool, elem: object[Pool]{fields: []field[Pool]{
			key("version", optionalTextShape("a version"), func(p *Pool) *string { return &p.Version },
				"The version of the model, as shown in status and access log."),
			key("endpoints", endpointsShape(), func(p *Pool) *[]Endpoint { return &p.Endpoints },
				"Where the model servers listen: HOST:PORT, or a mapping with address, weight and capacity. Host names are resolved at load and every 10 s; the last good answer is kept.").must(),
			key("policy", choiceShape("policy", Policies()), func(p *Pool) *string { return &p.Policy },
				"How an endpoint is picked: round_robin (smooth weighted), least_request (fewest in flight by weight; beyond 64 endpoints, of eight at random), two_choices (the less busy of two at random) or random."),
			key("probe", probeShape(), func(p *Pool) **Probe { return &p.Probe },
				"The active health check of every endpoint. The word off turns it off: then an endpoint always counts as healthy."),
			key("outlier", outlierShape(), func(p *Pool) **Outlier { return &p.Outlier },
				"Ejects endpoints that fail requests, so that they get none for a while; a connection that fails or ends, a timeout, broken HTTP and 5xx are failures. The word off turns it off."),
			key("slow_start", pauseShape(0), func(p *Pool) *time.Duration { return &p.SlowStart },
				"How long the weight of an endpoint grows to its own after the endpoint became usable. 0s: it has it at once."),
			key("panic_threshold", percentShape(), func(p *Pool) *float64 { return &p.PanicThreshold },
				"While less than this percentage of the pool's endpoints is not ejected, ejected ones get requests all the same. 0: never."),
			key("connections", connectionsShape(), func(p *Pool) *Connections { return &p.Connections },
				"The connections kept to each endpoint."),
		}},
	}
}

func endpointsShape() shape[[]Endpoint] {
	address := func(e *Endpoint) *string { return &e.Address }
	identity := func(e *Endpoint) string { return e.Address }
	return list[Endpoint]{noun: "endpoint", least: 1, fresh: DefaultEndpoint, identity: identity, sum: sumEndpoint, elem: brief[Endpoint]{
		isShort: func(e *Endpoint) bool { return *e == Endpoint{Address: e.Address, Weight: DefaultEndpoint().Weight} },
		short:   part(endpointAddressShape(), address),
		long: object[Endpoint]{fields: []field[Endpoint]{
			key("address", endpointAddressShape(), address, "HOST:PORT.").must(),
			key("weight", weightShape(), func(e *Endpoint) *float64 { return &e.Weight },
				"Relative to the other endpoints of the pool; 0 takes no new requests."),
			key("capacity", rateShape(), func(e *Endpoint) *Rate { return &e.Capacity },
				"The rate of requests it bears, as in 200/s, 12000/m or 0.5/s. Absent: not known."),
		}},
	}}
}

func probeShape() shape[*Probe] {
	return orOff[*Probe]{isOff: func(p *Probe) bool { return p == nil }, inner: optional[Probe]{
		fresh: DefaultProbe, inner: object[Probe]{fields: []field[Probe]{
			key("path", probePathShape(), func(p *Probe) *string { return &p.Path },
				"What is asked for, with GET."),
			key("interval", durationShape(), func(p *Probe) *time.Duration { return &p.Interval },
				"From one probe to the next, 10 % more or less at random."),
			key("timeout", durationShape(), func(p *Probe) *time.Duration { return &p.Timeout },
				"For the whole probe. At most the interval, and the interval itself where that is shorter than the default."),
			key("rise", countShape(1), func(p *Probe) *int { return &p.Rise },
				"Successes in a row that make an endpoint healthy. The very first probe decides alone."),
			key("fall", countShape(1), func(p *Probe) *int { return &p.Fall },
				"Failures in a row that make it unhealthy."),
			key("status", statusShape(), func(p *Probe) *StatusRange { return &p.Status },
				"The expected status: a code, or a range such as 200-299."),
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
				"Requests to an endpoint in an interval from which on failure_percent is judged."),
			key("interval", durationShape(), func(o *Outlier) *time.Duration { return &o.Interval },
				"What failure_percent is taken over."),
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
	}}
}

func routesShape() shape[[]Route] {
	identity := func(r *Route) string { return r.Name }
	return list[Route]{noun: "route", least: 1, fresh: DefaultRoute, identity: identity, sum: sumRoute, reordered: reordered, elem: object[Route]{fields: []field[Route]{
		key("name", nameShape(), func(r *Route) *string { return &r.Name },
			"The name of the route, unique among routes; written like the name of a pool.").must(),
		key("match", matchShape(), func(r *Route) *Match { return &r.Match },
			"Which requests; every part is optional, all that are given must hold. Without any it is every request."),
		key("split", splitShape(), func(r *Route) *[]Variant { return &r.Split },
			"The variants: pools with their relative weights. Fractions are allowed, to a hundredth of a percent of the sum; 0 takes no new requests.").must(),
		key("affinity", affinityShape(), func(r *Route) **Affinity { return &r.Affinity },
			"Keeps a subject (a user, a tenant) on its variant. Absent: every request is given a variant by chance."),
		key("timeouts", object[RouteTimeouts]{fields: []field[RouteTimeouts]{
			key("total", durationShape(), func(t *RouteTimeouts) *time.Duration { return &t.Total },
				"From the head of the request to the last byte of the answer; of an event stream to its head."),
			key("attempt", durationShape(), func(t *RouteTimeouts) *time.Duration { return &t.Attempt },
				"From the request wholly sent to the head of the answer."),
			key("idle", durationShape(), func(t *RouteTimeouts) *time.Duration { return &t.Idle },
				"Between two bytes of the answer."),
		}}, func(r *Route) *RouteTimeouts { return &r.Timeouts }, "How long a request may take; then 504."),
		key("limits", object[RouteLimits]{fields: []field[RouteLimits]{
			key("body", optional[Size]{fresh: func() Size { return 0 }, inner: sizeShape()}, func(l *RouteLimits) **Size { return &l.Body },
				"The body of a request; larger ones get 413. Absent: the listener's limit alone."),
		}}, func(r *Route) *RouteLimits { return &r.Limits }, "Tighter limits than the listener's."),
		key("retry", retryShape(), func(r *Route) *Retry { return &r.Retry },
			"When a request is sent again, to another endpoint of its variant while there is one. The word off turns it off."),
		key("rate_limit", rateLimitShape(), func(r *Route) **RateLimit { return &r.RateLimit },
			"Refuses the requests of a client beyond a rate, with 429. Absent: there is no limit."),
	}}}
}

func rateLimitShape() shape[*RateLimit] {
	return optional[RateLimit]{fresh: DefaultRateLimit, inner: object[RateLimit]{fields: []field[RateLimit]{
		key("key", rateLimitKeyShape(), func(l *RateLimit) *RateLimit { return l },
			"What tells clients apart: client_ip or header:NAME."),
		key("rate", rateShape(), func(l *RateLimit) *Rate { return &l.Rate },
			"The requests of each client, as in 10/s, 600/m or 0.5/s.").must(),
		key("burst", derivedCountShape(), func(l *RateLimit) *int { return &l.Burst },
			"Requests of a client that may come at once. Default: what rate allows in a second, rounded up."),
	}}}
}

func matchShape() shape[Match] {
	return object[Match]{exclusive: []string{"path", "path_prefix", "path_regex"}, fields: []field[Match]{
		key("host", hostShape(), func(m *Match) *string { return &m.Host },
			"The host, without port; exact, or *.example.com for every name below example.com."),
		key("path", matchPathShape(parsePath), func(m *Match) *string { return &m.Path },
			"The whole path. At most one of path, path_prefix and path_regex."),
		key("path_prefix", matchPathShape(parsePathPrefix), func(m *Match) *string { return &m.PathPrefix },
			"How the path begins, in whole segments: /api matches /api and /api/v1, never /apix."),
		key("path_regex", regexpShape(), func(m *Match) **Regexp { return &m.PathRegex },
			"A regular expression (RE2) that is found in the path; ^ and $ bind it to the ends."),
		key("methods", methodsShape(), func(m *Match) *[]string { return &m.Methods },
			"One of these methods, in upper case."),
		key("headers", headersShape(), func(m *Match) *[]Header { return &m.Headers },
			"Header fields that must all be there with exactly this value."),
	}}
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
			"Where the subject is read: header:NAME, cookie:NAME, query:NAME or client_ip.").must(),
		key("fallback", optionalTextShape("random, client_ip or a variant"), func(a *Affinity) *string { return &a.Fallback },
			"For a request without a subject: random, client_ip, or the name of a variant of the split."),
		key("salt", optionalTextShape("a text"), func(a *Affinity) *string { return &a.Salt },
			"Makes the assignments of two routes independent; the same salt makes them alike. Default: the name of the route."),
	}}}
}
