package proxy

import (
	"maps"
	"slices"
	"time"

	"weir/config"
	"weir/internal/state"
	"weir/internal/stats"
)

// Status is everything an operator asks for at a glance.
type Status struct {
	Version    string   `json:"version"`
	Generation uint64   `json:"generation"`
	Uptime     float64  `json:"uptime_seconds"`
	Degraded   bool     `json:"degraded"`
	Reasons    []string `json:"reasons"` // why it is degraded
	// Connections open from clients.
	Connections int           `json:"connections"`
	Routes      []RouteStatus `json:"routes"`
	Pools       []PoolStatus  `json:"pools"`
}

// RouteStatus is a route with its weights and what they led to.
type RouteStatus struct {
	Name       string          `json:"name"`
	Generation uint64          `json:"generation"` // of its last change
	Match      string          `json:"match"`
	Overlay    bool            `json:"overlay"` // the weights were set through the API, over the file's
	Variants   []VariantStatus `json:"variants"`
	Ramp       *RampStatus     `json:"ramp,omitempty"`    // on its way to other weights
	Rollout    *RolloutBrief   `json:"rollout,omitempty"` // under way
	Mirror     *MirrorStatus   `json:"mirror,omitempty"`
	Cache      *CacheStatus    `json:"cache,omitempty"` // absent where the route has none
	// Concurrency is absent where nothing is bounded.
	Concurrency *RouteConcurrency `json:"concurrency,omitempty"`
}

// RampStatus is where a ramp leads.
type RampStatus struct {
	To     []state.Weight `json:"to"`
	Ends   time.Time      `json:"ends"`
	By     string         `json:"by"`
	Reason string         `json:"reason,omitempty"`
}

// RolloutBrief is where a rollout that is under way is.
type RolloutBrief struct {
	From   string  `json:"from"`
	To     string  `json:"to"`
	Phase  string  `json:"phase"`
	Step   int     `json:"step"` // from 1; 0 before the first
	Steps  int     `json:"steps"`
	Weight float64 `json:"weight"` // of To, in percent
	Why    string  `json:"why"`
}

// VariantStatus is one variant of a route. Requests and Errors (5xx) count since start; the quantiles,
// in milliseconds, are over the last 60 s and null when there was no request.
type VariantStatus struct {
	Pool     string   `json:"pool"`
	Version  string   `json:"version"`
	Weight   float64  `json:"weight"` // as set
	Share    float64  `json:"share"`  // observed since the weights last changed, 0 to 1
	Usable   bool     `json:"usable"`
	Requests uint64   `json:"requests"`
	Errors   uint64   `json:"errors"`
	P50      *float64 `json:"p50_ms"`
	P95      *float64 `json:"p95_ms"`
	P99      *float64 `json:"p99_ms"`
	Recent   Recent   `json:"recent"`
	// Streams is how many event streams are under way. The others are, in milliseconds over the last 60 s, the time to
	// the first byte of the body of answers without a Content-Length, and null when there was none.
	Streams      int64    `json:"streams"`
	FirstByteP50 *float64 `json:"ttfb_p50_ms"`
	FirstByteP95 *float64 `json:"ttfb_p95_ms"`
	FirstByteP99 *float64 `json:"ttfb_p99_ms"`
}

// Recent is what a variant did in the last 10 to 15 s: Rate and Errors (5xx) are a second.
type Recent struct {
	Seconds float64  `json:"seconds"` // that it covers
	Rate    float64  `json:"rate"`
	Errors  float64  `json:"errors"`
	P50     *float64 `json:"p50_ms"`
	P95     *float64 `json:"p95_ms"`
	P99     *float64 `json:"p99_ms"`
}

// PoolStatus is a pool and its endpoints.
type PoolStatus struct {
	Name       string           `json:"name"`
	Version    string           `json:"version"`
	Policy     string           `json:"policy"`
	Generation uint64           `json:"generation"` // of its last change
	Draining   bool             `json:"draining"`   // as a whole
	Inflight   int64            `json:"inflight"`   // attempts under way: a drain is over at 0
	Panicking  bool             `json:"panicking"`  // ejected endpoints are used all the same: too few others are left
	Endpoints  []EndpointStatus `json:"endpoints"`
	Discovery  *DiscoveryStatus `json:"discovery,omitempty"` // nil where the endpoints are listed
	// Concurrency and CircuitBreaker are absent where nothing is bounded.
	Concurrency    *PoolConcurrency `json:"concurrency,omitempty"`
	CircuitBreaker *BreakerStatus   `json:"circuit_breaker,omitempty"`
}

// EndpointStatus is one endpoint. Requests and Errors count attempts since it was first configured.
type EndpointStatus struct {
	Address         string      `json:"address"`
	Weight          float64     `json:"weight"`           // as configured
	EffectiveWeight float64     `json:"effective_weight"` // as used now; 0 while it is not usable
	Inflight        int64       `json:"inflight"`
	Connections     int         `json:"connections"`
	Streams         *int        `json:"streams,omitempty"` // under way on them; nil where HTTP/2 is not spoken
	Healthy         bool        `json:"healthy"`
	Starting        bool        `json:"starting,omitempty"` // it is not healthy yet, as is expected (probe.startup)
	Refusing        bool        `json:"refusing,omitempty"` // connections; it gets requests only while all do
	Ejected         bool        `json:"ejected"`
	Ejection        string      `json:"ejection,omitempty"`      // why it is ejected
	EjectedUntil    string      `json:"ejected_until,omitempty"` // RFC 3339
	Ejections       uint64      `json:"ejections"`               // since it was first configured
	Draining        bool        `json:"draining"`
	Requests        uint64      `json:"requests"`
	Errors          uint64      `json:"errors"`
	Load            *LoadStatus `json:"load"`            // null where nobody asks for it, and nothing is known
	Probe           string      `json:"probe,omitempty"` // why the last probe, inference, or look-up of the name failed
}

// Status returns the state of everything.
func (p *Proxy) Status() Status {
	t := p.table.Load()
	s := Status{
		Version: p.version, Generation: t.generation, Uptime: time.Since(p.started).Seconds(),
		Reasons: []string{}, Connections: int(p.connections.Load()), Routes: []RouteStatus{}, Pools: []PoolStatus{},
	}
	switch p.memory.pressure.Load() {
	case pressureClose:
		s.Reasons = append(s.Reasons, "weir is short of memory: connections end after their request")
	case pressureRefuse:
		s.Reasons = append(s.Reasons, "weir holds as much memory as memory.limit allows: requests are refused")
	}
	for _, r := range t.routes {
		s.Routes = append(s.Routes, p.routeStatus(r))
		for _, v := range r.split.Variants() {
			if v.Weight > 0 && !v.Pool.Usable() {
				s.Reasons = append(s.Reasons, "route "+r.cfg.Name+": variant "+v.Pool.Name()+" has no usable endpoint")
			}
		}
	}
	for _, pl := range t.pools {
		ps := poolStatus(pl)
		s.Pools = append(s.Pools, ps)
		if ps.Panicking {
			s.Reasons = append(s.Reasons, "pool "+ps.Name+": so few endpoints are not ejected that those that are get requests, too")
		}
		if b := ps.CircuitBreaker; b != nil && b.Open {
			s.Reasons = append(s.Reasons, "pool "+ps.Name+": the circuit breaker is open")
		}
		if d := ps.Discovery; d != nil && d.Error != "" {
			s.Reasons = append(s.Reasons, "pool "+ps.Name+": "+d.DNS+" cannot be looked up, endpoints found before stay in use: "+d.Error)
		}
		for _, e := range ps.Endpoints {
			if !e.Healthy && !e.Starting { // what starts is as it is expected to be
				s.Reasons = append(s.Reasons, "pool "+ps.Name+": endpoint "+e.Address+" is not healthy: "+e.Probe)
			}
			if e.Ejected {
				s.Reasons = append(s.Reasons, "pool "+ps.Name+": endpoint "+e.Address+" is ejected until "+e.EjectedUntil+": "+e.Ejection)
			}
		}
	}
	states := t.sourceStates()
	for _, name := range slices.Sorted(maps.Keys(states)) {
		if !states[name] {
			s.Reasons = append(s.Reasons, "the latest credentials of "+name+" are not in force")
		}
	}
	s.Reasons = append(s.Reasons, t.reasons()...)
	if !p.reloads.Load().ok {
		s.Reasons = append(s.Reasons, "the last reload was rejected; the configuration before it is in force")
	}
	s.Degraded = len(s.Reasons) > 0
	return s
}

// Route returns one route's state; false when there is none of that name.
func (p *Proxy) Route(name string) (RouteStatus, bool) {
	r := p.table.Load().route(name)
	if r == nil {
		return RouteStatus{}, false
	}
	return p.routeStatus(r), true
}

// Pool returns one pool's state; false when there is none of that name.
func (p *Proxy) Pool(name string) (PoolStatus, bool) {
	pl := p.table.Load().pool(name)
	if pl == nil {
		return PoolStatus{}, false
	}
	return poolStatus(pl), true
}

func (p *Proxy) routeStatus(r *route) RouteStatus {
	s := RouteStatus{
		Name: r.cfg.Name, Generation: r.generation, Match: matchText(r.cfg.Match), Overlay: r.overlay != nil,
		Mirror: r.mirror.status(), Cache: r.cache.status(), Variants: []VariantStatus{}, Concurrency: r.permits.status(),
	}
	var total uint64
	for i := range r.counts.byVariant {
		total += r.counts.byVariant[i].Load()
	}
	for i, v := range r.split.Variants() {
		live := r.variants[i].live
		vs := VariantStatus{
			Pool: v.Pool.Name(), Version: v.Pool.Version(), Weight: v.Weight, Usable: v.Pool.Usable(),
			Requests: live.requests.Load(), Errors: live.errors.Load(),
		}
		if total > 0 {
			vs.Share = float64(r.counts.byVariant[i].Load()) / float64(total)
		}
		last := live.window.Snapshot()
		vs.P50, vs.P95, vs.P99 = millis(last, 0.50), millis(last, 0.95), millis(last, 0.99)
		vs.Recent = recent(live)
		first := live.streams.recent.Snapshot()
		vs.FirstByteP50, vs.FirstByteP95, vs.FirstByteP99 = millis(first, 0.50), millis(first, 0.95), millis(first, 0.99)
		vs.Streams = live.streams.open.Load()
		s.Variants = append(s.Variants, vs)
	}
	return s
}

func recent(live *variantLive) Recent {
	w := live.window.Recent(time.Now())
	r := Recent{Seconds: w.Span.Seconds(), P50: millis(w.Snapshot, 0.50), P95: millis(w.Snapshot, 0.95), P99: millis(w.Snapshot, 0.99)}
	if w.Span > 0 {
		r.Rate, r.Errors = float64(w.Count())/r.Seconds, float64(w.Failed)/r.Seconds
	}
	return r
}

func millis(s *stats.Snapshot, q float64) *float64 {
	d, ok := s.Quantile(q)
	if !ok {
		return nil
	}
	ms := float64(d.Microseconds()) / 1000
	return &ms
}

func poolStatus(pl *pool) PoolStatus {
	s := PoolStatus{Name: pl.Name(), Version: pl.Version(), Policy: pl.Policy(), Generation: pl.set.Generation, Draining: pl.Draining(), Inflight: pl.Inflight(), Panicking: pl.Panicking()}
	s.Concurrency, s.CircuitBreaker = pl.load.status()
	s.Discovery, s.Endpoints = pl.found.state(), []EndpointStatus{}
	for _, e := range pl.Endpoints() {
		es := EndpointStatus{
			Address: e.Address, Weight: e.Weight(), EffectiveWeight: e.EffectiveWeight(), Inflight: e.Inflight(),
			Healthy: e.Healthy(), Starting: e.Starting(), Refusing: e.Refusing(), Draining: e.Draining(), Ejected: e.Ejected(), Ejections: e.Ejections(), Requests: e.Requests(), Errors: e.Errors(), Probe: e.ProbeError(),
		}
		if es.Ejected {
			es.Ejection, es.EjectedUntil = e.EjectionReason(), e.EjectedUntil().UTC().Format(time.RFC3339)
		}
		if why := e.ResolveError(); why != "" && es.Probe == "" {
			es.Probe = why
		}
		t := e.Transport.(*transport)
		es.Connections, _ = t.connections()
		es.Streams = t.streamStatus()
		es.Load = loadStatus(e, t)
		s.Endpoints = append(s.Endpoints, es)
	}
	return s
}

// matchText is a match on one line, for people.
func matchText(m config.Match) string {
	s := m.Host
	switch {
	case m.GRPC != nil:
		s += m.GRPC.Path()
		if m.GRPC.Method == "" {
			s += "/*"
		}
		s += " grpc"
	case m.Path != "":
		s += m.Path
	case m.PathPrefix != "":
		s += m.PathPrefix
		if m.PathPrefix != "/" {
			s += "/"
		}
		s += "*"
	case m.PathRegex != nil:
		s += " ~" + m.PathRegex.String()
	default:
		s += "/*"
	}
	for i, method := range m.Methods {
		if i == 0 {
			s += " "
		} else {
			s += ","
		}
		s += method
	}
	for _, h := range m.Headers {
		s += " " + h.Name + ": " + h.Value
	}
	if m.Model != "" {
		s += " model " + m.Model
	}
	if m.ModelVersion != "" {
		s += "/" + m.ModelVersion
	}
	return s
}
