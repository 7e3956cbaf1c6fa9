package proxy

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	orca "weir/backend/load"
	"weir/balancer"
	"weir/config"
	"weir/internal/certificate/acme"
	"weir/internal/state"
	"weir/internal/telemetry"
	"weir/internal/tracing"
	"weir/proxy/aside"
	"weir/proxy/auth"
)

// Options are what a Proxy needs of its surroundings. The zero value is a proxy that logs nothing.
type Options struct {
	Log       *zap.Logger
	AccessLog *telemetry.AccessLog // nil: off
	Version   string
	// Resolve looks up the names of endpoints; nil is the system's resolver.
	Resolve func(ctx context.Context, host string) ([]netip.Addr, error)
	// Ops, where not nil, counts the system calls on sockets.
	Ops *SocketOps
	// Loops is how many event loops there are; 0: as many as GOMAXPROCS.
	Loops int
	// Dedicated says that the program does nothing else of weight. The loops then keep their processors
	// while they wait for events, which spares a hand-over between threads for each, and GOMAXPROCS is
	// raised so that one is left for everything else.
	Dedicated bool

	// Remembered is what survived the last run: weights and drains come into force with the first
	// configuration. nil: nothing did.
	Remembered *state.Document
	// Commit, where not nil, is called with each change and with the document that is to survive a restart
	// (without a history), when nothing can refuse the change any more and before it is in force; what it
	// returns is called when it is. Changes come one after the other, in the order of their generations.
	Commit func(state.Change, *state.Document) (after func())
	// Health, where not nil, is told when an endpoint's health has changed.
	Health func(e *balancer.Endpoint, healthy bool, why string)
	// Breaker, where not nil, is told when a pool's circuit breaker has begun to refuse, and when it does no more.
	Breaker func(pool string, open bool, refused uint64)
	// Ejected, where not nil, is told when an endpoint was ejected as an outlier, until when, and when it came back.
	Ejected func(e *balancer.Endpoint, ejected bool, why string, until time.Time)

	// Certificate, where not nil, is told what became of an order of a certificate (ACME).
	Certificate func(acme.Event)

	mirrorPatience time.Duration // 0: mirrorPatience

	hook func() // called for each admitted request, for tests of what must not end the process
}

// Proxy is weir's data path and the figures it keeps. Make it with New, give it a configuration with
// Apply, run it with Serve.
type Proxy struct {
	log     *zap.Logger
	access  *telemetry.AccessLog
	version string
	options Options
	ops     *SocketOps
	started time.Time

	clock   *clock
	watch   *watch
	engines *engines
	checks  *auth.Queue // of passwords
	buffers sync.Pool   // *buffers
	relays  sync.Pool   // *[]byte of relayBuffer
	pieces  sync.Pool   // *[]byte of pieceBuffer
	reports sync.Pool   // *orca.Parser
	// scrapeReaders are *bufio.Reader.
	scrapeReaders sync.Pool
	aside         aside.Client
	packers       packers
	comparing     sync.Mutex  // held while two answers are compared; never by a request
	stopping      atomic.Bool // answers end their connections
	emptied       atomic.Bool // stopping, and nothing more is accepted
	serving       atomic.Bool

	connections atomic.Int64 // accepted and not yet closed

	table atomic.Pointer[table]

	tracing     atomic.Pointer[tracer] // nil: no request is traced
	spans       tracing.Counts
	memory      memory
	http2       *clientLive
	badRequests labelCounts
	handshakes  labelCounts // with clients that failed
	panics      atomic.Uint64
	unrouted    variant // requests without a route

	// applying lets one configuration at a time be applied, and so only one change the pools. It is held
	// while names are looked up; mu, which orders all changes, never that long. Neither requests nor what
	// only asks for the state take either.
	applying  sync.Mutex
	mu        sync.Mutex
	listeners atomic.Pointer[[]*listener]
	accepting sync.WaitGroup
	// discovering are the goroutines that look up the endpoints of pools, one each: a look-up may take seconds.
	discovering sync.WaitGroup
	reloads     atomic.Pointer[reloadState]
}

// New returns a proxy without a configuration.
func New(o Options) *Proxy {
	if o.Log == nil {
		o.Log = zap.NewNop()
	}
	if o.mirrorPatience == 0 {
		o.mirrorPatience = mirrorPatience
	}
	p := &Proxy{
		log: o.Log, access: o.AccessLog, version: o.Version, options: o, ops: o.Ops, started: time.Now(),
		clock: newClock(), checks: auth.NewQueue(max(runtime.GOMAXPROCS(0)/2, 1), passwordsWaiting), unrouted: variant{live: new(variantLive)},
	}
	p.aside.Secure = openConn
	p.watch = newWatch(p.clock)
	p.http2 = newClientLive()
	p.engines = newEngines(p, o.Loops)
	p.buffers.New = func() any { return &buffers{in: make([]byte, smallBuffer), out: make([]byte, 0, smallBuffer)} }
	p.relays.New = func() any { b := make([]byte, relayBuffer); return &b }
	p.pieces.New = func() any { b := make([]byte, pieceBuffer); return &b }
	p.reports.New = func() any { return new(orca.Parser) }
	p.scrapeReaders.New = func() any { return bufio.NewReaderSize(nil, pieceBuffer) }
	empty := &table{cfg: &config.Config{}, router: newRouter(nil), remembered: o.Remembered}
	if o.Remembered != nil {
		empty.generation = o.Remembered.Generation
	}
	p.table.Store(empty)
	p.reloads.Store(&reloadState{})
	p.listeners.Store(new([]*listener))
	return p
}

// Addrs are the addresses the listeners are bound to, in the order of the configuration.
func (p *Proxy) Addrs() []net.Addr {
	var a []net.Addr
	for _, l := range *p.listeners.Load() {
		a = append(a, l.socket.Addr())
	}
	return a
}

// Serve takes connections until Shutdown has ended. When ctx ends first, it breaks off what runs. A
// configuration must have been applied.
func (p *Proxy) Serve(ctx context.Context) error {
	p.mu.Lock()
	if !p.table.Load().filled() {
		p.mu.Unlock()
		return errors.New("no configuration was applied")
	}
	p.serving.Store(true)
	for _, l := range *p.listeners.Load() {
		p.accepting.Go(l.accept)
	}
	p.mu.Unlock()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go p.tick(ctx)
	p.watch.run(ctx, p.sweep, func() bool { return p.emptied.Load() && p.connections.Load() == 0 })
	for _, l := range *p.listeners.Load() {
		l.stop() // Shutdown has, ctx's end has not
	}
	p.watch.each(func(c *conn) { c.stop(true) })
	p.accepting.Wait()
	p.aside.Close()
	p.mu.Lock()
	p.followSources(p.table.Load(), &table{})
	p.followNames(p.table.Load(), &table{})
	for _, pl := range p.table.Load().pools {
		pl.Stop()
		for _, e := range pl.Endpoints() {
			e.Transport.(*transport).close()
		}
	}
	p.mu.Unlock()
	p.discovering.Wait()
	p.engines.stop()
	p.trace(nil, true)
	return nil
}

// sweep is called with each sweep of the watch.
func (p *Proxy) sweep() {
	p.engines.sweep()
	for _, pl := range p.table.Load().pools {
		pl.load.adapt(p)
	}
	p.memory.look(p.log)
}

// tick does once a second what figures and idle connections need.
func (p *Proxy) tick(ctx context.Context) {
	t := time.NewTicker(time.Second)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-t.C:
			t := p.table.Load()
			for _, r := range t.routes {
				r.tick(now)
			}
			for _, l := range t.live {
				l.window.Tick(now)
				l.streams.recent.Tick(now)
			}
			for _, pl := range t.pools {
				p.tickBreaker(pl)
			}
			t.tickScale(now)
			p.watch.each((*conn).tick)
			p.engines.prune(func(lane int) {
				for _, pl := range t.pools {
					for _, e := range pl.Endpoints() {
						e.Transport.(*transport).prune(lane)
					}
				}
			})
		}
	}
}

// tick is for what a route counts by seconds.
func (r *route) tick(now time.Time) {
	r.retry.live.tick()
	if r.hedge == nil {
		return
	}
	r.hedge.live.tick()
	for _, v := range r.variants {
		if v.heads != nil {
			v.heads.tick(now, r.hedge.Percentile)
		}
	}
}

// idleGrace is how long idle connections stay open while stopping: a request that is on its way when
// weir begins to stop still gets its answer, with Connection: close.
const idleGrace = time.Second

// Shutdown stops accepting, finishes what runs, and returns when every connection is closed. When ctx
// ends first, it breaks the rest off and returns ctx's error.
func (p *Proxy) Shutdown(ctx context.Context) error {
	p.stopping.Store(true)
	for _, l := range *p.listeners.Load() {
		if p.serving.Load() {
			l.stop()
		} else {
			l.discard()
		}
	}
	p.emptied.Store(true)
	grace := time.Now().Add(idleGrace)
	t := time.NewTicker(sweepInterval / 4)
	defer t.Stop()
	for p.connections.Load() > 0 {
		select {
		case <-ctx.Done():
			n := p.connections.Load()
			p.watch.each(func(c *conn) { c.stop(true) })
			return fmt.Errorf("%d connections were still open: %w", n, ctx.Err())
		case <-t.C:
			p.watch.each((*conn).goAway)
			if time.Now().After(grace) {
				p.watch.each(func(c *conn) { c.stop(false) })
			}
		}
	}
	return nil
}

// stop ends a connection that is idle with nothing to read; force: any connection.
func (c *conn) stop(force bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if force {
		c.halt(reasonStop)
		return
	}
	phase := c.phase.Load()
	if (phase == phaseIdle || phase == phaseDetached) && c.reason == reasonNone && !c.readable() {
		c.halt(reasonQuit)
	}
}

// panicked counts and logs a panic that ended a request.
func (p *Proxy) panicked(v any) {
	p.panics.Add(1)
	p.log.Error("a request panicked: please report this", telemetry.Panic(v, debug.Stack()))
}

// Config is the configuration in force, an empty one before the first.
func (p *Proxy) Config() *config.Config { return p.table.Load().cfg }

// Generation is the number of the last change that was applied, from 1.
func (p *Proxy) Generation() uint64 { return p.table.Load().generation }

// Ready reports whether the listeners are open and some route has a usable endpoint, or none needs one.
func (p *Proxy) Ready() bool {
	if !p.serving.Load() || p.stopping.Load() {
		return false
	}
	none := true
	for _, r := range p.table.Load().routes {
		if usable(r.split) {
			return true
		}
		none = none && len(r.variants) == 0
	}
	return none
}

// usable reports whether some variant of weight > 0 can take requests.
func usable(s *balancer.Split) bool {
	for _, v := range s.Variants() {
		if v.Weight > 0 && v.Pool.Usable() {
			return true
		}
	}
	return false
}
