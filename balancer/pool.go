// Package balancer decides who gets a request: Split chooses the variant of a route, by
// chance or by subject, and Pool picks one of its endpoints by policy. Probes, name
// resolution, what requests meet (outlier detection) and counters keep the picture current.
//
// Choosing and picking take no lock and allocate nothing. Everything they read is immutable
// and replaced as a whole (Split, the selection of a Pool), or an atomic of an Endpoint.
package balancer

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"weir/config"
)

// ProbeFunc asks endpoint e at addr once whether it is well, as p says. nil means it
// answered as expected; the text of the error is shown to the operator, so it names what
// came instead ("GET /health/ready answered 404"). It returns when ctx is done, which is
// the probe's timeout after the call. It is called from several goroutines at once.
type ProbeFunc func(ctx context.Context, e *Endpoint, addr Addr, p config.Probe) error

// PoolOptions connect a pool to the world. The zero value is a pool that is not probed.
type PoolOptions struct {
	// NewTransport makes Endpoint.Transport for an endpoint that no earlier pool has; nil
	// leaves it nil.
	NewTransport func(*Endpoint) any
	// Probe is the active health check; nil means that all endpoints are healthy.
	Probe ProbeFunc
	// Infer asks the same of an endpoint's model (config.Probe.Inference); nil means that nobody does. It is
	// called while the probes succeed. Its errors begin with "inference".
	Infer ProbeFunc
	// Dial tries whether an address takes connections, when requests have met that it does not; nil means that
	// endpoints that refuse connections are picked like others.
	Dial func(ctx context.Context, addr Addr) error
	// Scrape reads the metrics of an endpoint (config.Pool.Load); nil means that nobody does. What it returns is its
	// caller's until it is called for the same endpoint again.
	Scrape ScrapeFunc
	// Spread is the time over which the first probes of a pool's endpoints are spread at random,
	// at most their interval, so that those of many pools do not fall on one moment. 0: all come
	// at once.
	Spread time.Duration
	// Resolve looks a host name up; nil is net.DefaultResolver.
	Resolve func(ctx context.Context, host string) ([]netip.Addr, error)
	// Log is told in one line what changed: an endpoint's health, its addresses, whether its
	// name can be resolved. nil is silent. It is called from several goroutines at once.
	Log func(format string, args ...any)
	// Warn is told in Log's stead what an operator should look at: an endpoint that became
	// unhealthy, a name that does not resolve. nil leaves it to Log.
	Warn func(format string, args ...any)
	// Changed is called after Start whenever the health or the addresses of an endpoint changed, or
	// it was ejected or readmitted, when Pick heeds it already; nil is nobody. It is called from several
	// goroutines at once, and must not call Start or Stop.
	Changed func(*Pool)
	// Health is called after Start when Endpoint.Healthy changed, when Pick heeds it already, and
	// told why: what the probe found, or what made the endpoint healthy again. nil is nobody. For one
	// endpoint it is called in order and not at the same time, for several from several
	// goroutines at once. No lock is held that Pick or any method but Resolve could need; Stop waits
	// for it, so that it must not wait for anybody who may be calling Start or Stop.
	Health func(e *Endpoint, healthy bool, why string)
	// Ejected is called after Start when Endpoint.Ejected changed, under the rules of Health: told why,
	// and until when the endpoint is ejected; the zero time when it is readmitted. It runs in a goroutine
	// of the pool, never in that of a caller of Done, Drain or Start.
	Ejected func(e *Endpoint, ejected bool, why string, until time.Time)
}

// Pool is a named set of endpoints and the policy that picks among those that are usable.
//
// NewPool only builds; Start makes the pool the one that probes, resolves and updates its
// endpoints, and takes that role from the pool that had it. Pick works at all times: a pool
// that was not started yet or lost its endpoints to a later one picks by what it knew last.
type Pool struct {
	config    config.Pool
	options   PoolOptions
	endpoints []*Endpoint
	members   []member // all endpoints, with this configuration's weights
	line      *line
	selection atomic.Pointer[selection]

	mu sync.Mutex // held while selection is replaced

	stop    context.CancelFunc    // nil when not started
	dial    func(*Endpoint) error // until Stop
	running sync.WaitGroup
	timing  sync.Mutex // guards what follows
	timers  map[asked]*time.Timer
	tending bool        // between Start and Stop
	tender  *time.Timer // runs tend; nil until there is something to come
	tendAt  time.Time   // when; zero when that is not planned
}

// NewPool builds the pool of c. It reuses the endpoints of prev that have the same address,
// if prev (which may be nil) has the same name, and leaves their live state alone, so that
// prev serves on unharmed when the new pool is given up. Drains pass on. It resolves nothing.
func NewPool(c config.Pool, prev *Pool, o PoolOptions) *Pool {
	p := &Pool{config: c, options: o, line: &line{born: time.Now()}}
	if p.options.Resolve == nil {
		p.options.Resolve = func(ctx context.Context, host string) ([]netip.Addr, error) {
			return net.DefaultResolver.LookupNetIP(ctx, "ip", host)
		}
	}
	known := map[string]*Endpoint{}
	if prev != nil && prev.config.Name == c.Name {
		p.line = prev.line
		for _, e := range prev.endpoints {
			known[e.Address] = e
		}
	}
	for _, ec := range c.Endpoints {
		e := known[ec.Address]
		if e == nil {
			e = newEndpoint(c.Name, ec.Address, ec.Weight, p.line)
			e.learned.on.Store(p.learns())
			if o.NewTransport != nil {
				e.Transport = o.NewTransport(e)
			}
			if p.probes() && c.Probe.Startup != nil {
				e.health.start()
				e.settle()
			}
		}
		p.endpoints = append(p.endpoints, e)
		p.members = append(p.members, member{e: e, weight: ec.Weight})
	}
	p.refresh()
	return p
}

// Name returns the pool's name.
func (p *Pool) Name() string { return p.config.Name }

// Version returns the version of the model that the pool's endpoints run, as configured.
func (p *Pool) Version() string { return p.config.Version }

// Policy returns the name of the policy that picks endpoints.
func (p *Pool) Policy() string { return p.config.Policy }

// Config returns the configuration the pool was built from. It is shared: do not change it.
func (p *Pool) Config() config.Pool { return p.config }

// Endpoints returns all endpoints, usable or not, in file order.
func (p *Pool) Endpoints() []*Endpoint { return slices.Clone(p.endpoints) }

// UsableEndpoints returns the endpoints that Pick chooses among, in file order: healthy, not
// draining, not ejected unless the pool panics, of weight > 0 here, and not refusing connections unless all are.
func (p *Pool) UsableEndpoints() []*Endpoint {
	var out []*Endpoint
	for _, m := range p.selection.Load().members {
		out = append(out, m.e)
	}
	return out
}

// Usable reports whether Pick would find an endpoint. It is one atomic load.
func (p *Pool) Usable() bool { return len(p.selection.Load().members) > 0 }

// Panicking reports whether ejected endpoints are used all the same, because fewer than
// config.Pool.PanicThreshold percent of those that are healthy and do not drain are not ejected,
// or none is. Those that are unhealthy or drain are never used. It is one atomic load.
func (p *Pool) Panicking() bool { return p.selection.Load().panicking }

// Pick returns an endpoint by policy among the usable ones of weight > 0, not one of tried
// unless all of those were tried: then it picks among them as if none was, rather than an endpoint
// that is ejected, unhealthy or drains. nil when none is usable. The endpoint counts as one more in flight
// from now on, before there is a connection, until its Done is called.
//
// It takes no lock and allocates nothing. tried is not kept, but the compiler moves it to
// the heap: keep it in an object that is reused.
func (p *Pool) Pick(tried []*Endpoint) *Endpoint { return p.PickFor(nil, tried) }

// PickFor is Pick for a request of a subject, which the policy hash keeps on its endpoint; other policies do not look
// at it. An empty one is none. subject is not kept.
func (p *Pool) PickFor(subject []byte, tried []*Endpoint) *Endpoint {
	e := p.selection.Load().pick(subject, tried)
	if e != nil {
		e.inflight.Add(1)
	}
	return e
}

// Start takes the endpoints over: this pool's weights and probe now hold for them. It
// probes them and looks their names up until Stop. It must be called at most once, and not
// at the same time as Stop.
func (p *Pool) Start() {
	ctx, stop := context.WithCancel(context.Background())
	p.stop, p.dial = stop, p.dialer(ctx)
	p.timing.Lock()
	p.timers, p.tending = map[asked]*time.Timer{}, true
	p.timing.Unlock()
	recovered, readmitted := p.takeOver()
	p.refresh() // health and drains may have changed since NewPool
	if len(recovered)+len(readmitted) > 0 {
		p.running.Go(func() { // the caller may hold locks that the callback needs
			for _, e := range recovered {
				p.tell(e, true, p.unasked())
			}
			for _, e := range readmitted {
				p.tellEjection(e)
			}
		})
	}
	p.plan()
	for _, e := range p.endpoints {
		if p.probes() {
			p.keepProbing(ctx, e)
		}
		if p.scrapes() {
			p.keepScraping(ctx, e)
		}
		if e.host != "" {
			p.running.Go(func() { p.keepResolving(ctx, e) })
		}
	}
}

// Stop ends what Start began and waits for it. A probe under way is given up and counts
// for nothing. Endpoints keep the state they have.
func (p *Pool) Stop() {
	if p.stop != nil {
		p.stop()
		p.stopTimers()
		p.running.Wait()
	}
}

// refresh replaces the selection by what is usable now.
func (p *Pool) refresh() {
	if p.reselect() {
		p.tendIn(tendGap) // it logs: the caller may hold locks that the log needs
	}
}

// reselect does what refresh says, and reports whether a panic of the pool in force began or ended.
func (p *Pool) reselect() (turned bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	var n census
	for _, m := range p.members {
		if m.weight > 0 {
			n.count(m.e)
		}
	}
	panicking := n.panics(p.config.PanicThreshold)
	p.line.judging.Lock() // so that a pool that is being replaced does not write after the next one
	if p.line.inForce.Load() == p {
		turned = p.line.panicking.Swap(panicking) != panicking
	}
	p.line.judging.Unlock()
	usable := p.usable(panicking)
	if now := p.selection.Load(); now != nil && now.panicking == panicking && slices.Equal(now.members, usable) {
		return turned
	}
	s := newSelection(&p.config, usable, &p.line.turn)
	s.panicking = panicking
	p.selection.Store(s)
	return turned
}

// usable returns the members that may be picked: those that refuse connections only when there is no other.
func (p *Pool) usable(panicking bool) []member {
	usable := make([]member, 0, len(p.members))
	var refusing []member
	for _, m := range p.members {
		if m.weight <= 0 || !m.e.usable(panicking) {
			continue
		}
		m.weight = m.e.scaled(m.weight)
		if m.e.Refusing() {
			refusing = append(refusing, m)
		} else {
			usable = append(usable, m)
		}
	}
	if len(usable) == 0 {
		return refusing
	}
	return usable
}

// changed lets Pick and the owner's callback know of a change of an endpoint.
func (p *Pool) changed() {
	p.refresh()
	if p.options.Changed != nil {
		p.options.Changed(p)
	}
}

// tell lets the owner's callback know of a change of e's health. It is silent when another change
// has come upon this one: whoever made that tells.
func (p *Pool) tell(e *Endpoint, healthy bool, why string) {
	e.telling.Lock()
	defer e.telling.Unlock()
	if e.Healthy() != healthy || e.told == healthy {
		return
	}
	e.told = healthy
	if p.options.Health != nil {
		p.options.Health(e, healthy, why)
	}
}

func (p *Pool) logf(format string, args ...any) {
	if p.options.Log != nil {
		p.options.Log(format, args...)
	}
}

func (p *Pool) warnf(format string, args ...any) {
	if p.options.Warn != nil {
		p.options.Warn(format, args...)
		return
	}
	p.logf(format, args...)
}

// takeOver makes p the pool in force, whose configuration holds for its endpoints, and returns those
// that this alone made healthy, and those that it readmitted.
func (p *Pool) takeOver() (recovered, readmitted []*Endpoint) {
	l := p.line
	l.judging.Lock()
	defer l.judging.Unlock()
	now := time.Now()
	for _, m := range p.members {
		was := m.e.adopt(p, m.weight)
		joins := was.unowned && l.inForce.Load() != nil
		if was.unhealthy {
			recovered = append(recovered, m.e)
		}
		if joins || was.unhealthy {
			p.rise(m.e, now)
		}
		p.expectReports(m.e)
		m.e.learned.on.Store(p.learns())
		if p.expectOutcomes(m.e, p.config.Outlier, now) {
			readmitted = append(readmitted, m.e)
		}
	}
	l.inForce.Store(p)
	return recovered, readmitted
}

// unasked is why an endpoint is healthy whose failures p does not ask for any more.
func (p *Pool) unasked() string {
	if p.probes() {
		return "its model is not asked any more"
	}
	return "it is not probed any more"
}

// before is what an endpoint was until a pool took it over.
type before struct {
	unowned   bool // no pool had it
	unhealthy bool // and is not any more: nobody asks now what spoke against it
}

// adopt makes p the pool whose configuration holds for e and whose loops may change it.
func (e *Endpoint) adopt(p *Pool, weight float64) (was before) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.owner == nil {
		was.unowned = true
		e.told = e.Healthy() // what it is to begin with is no change; without an owner nobody tells
	}
	e.owner = p
	e.setWeight(weight)
	var probe *config.Probe
	if p.probes() {
		probe = p.config.Probe
	}
	healthy := e.Healthy()
	e.health.expect(probe)
	e.infers.expect(probe)
	e.settle()
	was.unhealthy = !healthy && e.Healthy()
	return was
}
