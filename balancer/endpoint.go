package balancer

import (
	"fmt"
	"math"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"weir/internal/stats"
)

// Endpoint is one address of a pool, with everything that is known about it while weir
// runs. It is known by the names of its pool and itself: while both stay, a reload hands
// the same Endpoint to the next pool, so that running requests, health and counters go on.
//
// What a configuration says about it, weight and probe, belongs to the pool; the endpoint
// shows what the pool started last says.
type Endpoint struct {
	// Pool and Address identify the endpoint.
	Pool, Address string
	// Transport belongs to whoever made the pool (PoolOptions.NewTransport); it is set once
	// and never changed.
	Transport any

	host string // the name to resolve; "" when Address holds an IP address or a path
	port uint16
	born time.Time // what the times of reports count from

	weight atomic.Uint64 // float64 bits
	down   atomic.Bool   // what the probes and inferences say; written with mu held
	drains atomic.Bool   // by itself
	addrs  atomic.Pointer[[]Addr]
	line   *line // that of its pools, which the endpoint never leaves
	trust  trust

	mu     sync.Mutex // held off the request path only
	owner  *Pool      // the pool started last; it alone may change what follows
	health health
	infers inferences
	lookup lookup
	found  chan struct{} // closed when the first address is known

	checks  checks // what probes and inferences were answered
	reports [sources]reported
	// scrapeFailure is why the last scrape failed; nil: it did not.
	scrapeFailure atomic.Pointer[string]

	weighting atomic.Pointer[Weighting] // nil where weights do not follow reports
	course    course                    // what led to it; guarded by line.judging

	telling sync.Mutex // held while PoolOptions.Health is called, so that it hears the changes in order
	told    bool       // the health that it heard last; guarded by telling once there is an owner

	// What every request writes is kept off the cache lines that every request reads.
	_        [64]byte
	inflight atomic.Int64
	learned  learned // beside inflight, as policies read both
	ended    [outcomes]atomic.Uint64
	latency  stats.Histogram
}

// lookup is what the resolver knows about an endpoint's name; guarded by Endpoint.mu.
type lookup struct {
	last    time.Time // when the last lookup ended; zero before
	failure string    // why it failed; "" when it did not
}

// newEndpoint returns the endpoint of an address, not resolved yet unless it is an IP address or a path.
func newEndpoint(pool, address string, weight float64, l *line) *Endpoint {
	e := &Endpoint{Pool: pool, Address: address, line: l, born: time.Now(), found: make(chan struct{})}
	e.trust.tenths.Store(allTenths)
	e.setWeight(weight)
	if path, ok := socketPath(address); ok {
		e.setAddrs([]Addr{{Path: path}})
		return e
	}
	host, port, err := splitAddress(address)
	if err != nil {
		e.lookup.failure = err.Error()
		return e
	}
	e.port = port
	if ip, err := netip.ParseAddr(host); err == nil {
		e.setAddrs([]Addr{{AddrPort: netip.AddrPortFrom(ip.Unmap(), port)}})
		return e
	}
	e.host = host
	return e
}

// splitAddress takes HOST:PORT apart.
func splitAddress(address string) (host string, port uint16, err error) {
	host, text, err := net.SplitHostPort(address)
	if err != nil || host == "" {
		return "", 0, fmt.Errorf("address %q is not HOST:PORT", address)
	}
	n, err := strconv.ParseUint(text, 10, 16)
	if err != nil || n == 0 {
		return "", 0, fmt.Errorf("address %q: the port is not a number from 1 to 65535", address)
	}
	return host, uint16(n), nil
}

// Weight returns the configured weight, relative to the other endpoints of the pool.
func (e *Endpoint) Weight() float64 { return math.Float64frombits(e.weight.Load()) }

func (e *Endpoint) setWeight(w float64) { e.weight.Store(math.Float64bits(w)) }

// EffectiveWeight returns the weight by which the endpoint is picked now: Weight, tenths of it for
// a while after it became usable (slow start, or the end of an ejection), times what its reports make of it
// (Weighting), or 0 while it is not usable, as when it drains.
func (e *Endpoint) EffectiveWeight() float64 {
	if !e.Usable() {
		return 0
	}
	return e.scaled(e.Weight())
}

// scaled returns the part of weight w that the endpoint has now.
func (e *Endpoint) scaled(w float64) float64 {
	w *= e.factor()
	if n := e.trust.tenths.Load(); n < allTenths {
		return w * float64(n) / allTenths
	}
	return w
}

// Inflight returns how many attempts were picked for the endpoint and have not ended.
func (e *Endpoint) Inflight() int64 { return e.inflight.Load() }

// Healthy reports whether the endpoint has an address and its probes and inferences do not speak against
// it: there are none, or none ended yet, or they succeed. With a startup the first probe must have succeeded.
// A drain is no matter of health.
func (e *Endpoint) Healthy() bool { return e.addrs.Load() != nil && !e.down.Load() }

// Usable reports whether the endpoint may be picked: it is healthy, does not drain, and is not ejected
// unless its pool panics. A panic never revives endpoints that drain: an operator wants them empty.
func (e *Endpoint) Usable() bool { return e.usable(e.line.panicking.Load()) }

func (e *Endpoint) usable(panicking bool) bool {
	return e.Healthy() && !e.Draining() && (panicking || !e.Ejected())
}

// Resolved reports whether an address is known. One that was known once stays known.
func (e *Endpoint) Resolved() bool { return e.addrs.Load() != nil }

// Addrs returns the addresses of the last lookup that succeeded, in the order in which the
// resolver prefers them; nil when none has yet. The slice is shared: do not change it.
func (e *Endpoint) Addrs() []Addr {
	if a := e.addrs.Load(); a != nil {
		return *a
	}
	return nil
}

// Requests returns how many attempts ended.
func (e *Endpoint) Requests() uint64 {
	var n uint64
	for i := range e.ended {
		n += e.ended[i].Load()
	}
	return n
}

// Errors returns how many attempts ended with an outcome that counts against the endpoint.
func (e *Endpoint) Errors() uint64 {
	var n uint64
	for i := range e.ended {
		if Outcome(i).Failed() {
			n += e.ended[i].Load()
		}
	}
	return n
}

// OutcomeCount returns how many attempts ended with o.
func (e *Endpoint) OutcomeCount(o Outcome) uint64 { return e.ended[o].Load() }

// Latency returns the durations of the attempts that ended.
func (e *Endpoint) Latency() *stats.Histogram { return &e.latency }

// Done ends what Pool.Pick began: the attempt is no longer in flight, and its outcome and
// duration count. It must be called exactly once for each Pick.
func (e *Endpoint) Done(o Outcome, d time.Duration) { e.End(Attempt{Outcome: o, Took: d}) }

// End is Done, told more.
func (e *Endpoint) End(a Attempt) {
	e.Leave()
	e.Judge(a)
}

// Leave and Judge are End in two parts, each to be called once, for an attempt that stays in flight after it is known
// how it went, as one that has become a tunnel.
func (e *Endpoint) Leave() { e.inflight.Add(-1) }

// Judge takes in how an attempt went.
func (e *Endpoint) Judge(a Attempt) {
	o, d := a.Outcome, a.Took
	e.ended[o].Add(1)
	e.latency.Record(d)
	if e.learned.on.Load() {
		e.learn(a)
	}
	if o == Connect {
		e.refused()
	} else if r := e.trust.refusal.Load(); r != nil && (o == Success || o == Status) {
		e.answered(r, d)
	}
	if c := e.trust.watch.Load(); c != nil {
		e.weigh(c, o, d)
	}
}

// ProbeError returns why the last probe that failed did, or where none did the last inference, "" when the
// endpoint is healthy and they succeeded or none failed. While it starts it begins with "starting: ".
func (e *Endpoint) ProbeError() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.health.failure != "" {
		return e.health.failure
	}
	return e.infers.failure
}

// Starting reports whether the endpoint gets no requests yet because no probe has succeeded, which is expected.
func (e *Endpoint) Starting() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.health.starting
}

// settle lets what the probes and inferences say hold, and reports whether that changes the endpoint's health.
// It is called with mu held.
func (e *Endpoint) settle() (changed bool) {
	down := e.health.down || e.infers.down
	return e.down.Swap(down) != down
}

// ResolveError returns why the last lookup of the endpoint's name failed, "" when it did not.
func (e *Endpoint) ResolveError() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.lookup.failure
}
