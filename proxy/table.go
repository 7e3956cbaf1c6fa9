package proxy

import (
	"net/netip"
	"sync/atomic"
	"time"

	"weir/balancer"
	"weir/config"
	"weir/internal/certificate/acme"
	"weir/internal/state"
	"weir/internal/stats"
)

// table is one immutable snapshot of everything a request reads. A request loads it once and keeps
// it; a change makes a new one (build.go).
type table struct {
	cfg        *config.Config
	generation uint64
	digest     string // of cfg, where somebody remembers it
	router     *router
	routes     []*route
	pools      []*pool
	routeAt    map[string]int // name → index into routes
	poolAt     map[string]int
	trusted    []netip.Prefix
	// remembered is what the last run left, before the first configuration of this one is in force.
	remembered *state.Document
	live       map[variantKey]*variantLive // the figures of all variants; handed from table to table
	sources    map[sourceKey]source        // of the gates' credentials, of certificates and authorities
	tls        map[string]*tlsServer       // by the address of the listener
	accounts   []*acme.Account             // that get certificates; nil: no listener asks for that
	cors       bool                        // some route answers preflights
}

// route returns the route of that name, nil when there is none.
func (t *table) route(name string) *route {
	i, ok := t.routeAt[name]
	if !ok {
		return nil
	}
	return t.routes[i]
}

// pool returns the pool of that name, nil when there is none.
func (t *table) pool(name string) *pool {
	i, ok := t.poolAt[name]
	if !ok {
		return nil
	}
	return t.pools[i]
}

// pool is a balancer.Pool, when it was last changed, and which drains were asked for. The balancer's pool
// follows when the table is in force.
type pool struct {
	*balancer.Pool
	set     state.Pool
	load    *load      // nil: unbounded
	tls     *tlsClient // nil: its endpoints speak plain HTTP
	found   *discovery // nil: its endpoints are listed
	scaling *scaling   // nil: nobody asks how many replicas are desired
}

// route is a route in force: its split at these weights, and its limits.
type route struct {
	cfg        config.Route
	split      *balancer.Split
	variants   []*variant    // parallel to split.Variants()
	none       *variant      // stands for it while none was chosen
	subject    config.Source // what affinity keeps on its variant, as subjectOf has it
	fallback   int           // index of the variant for requests without a subject; -1: by chance
	generation uint64        // of the last change
	overlay    *overlay      // weights set through the API, nil when the file's are in force
	counts     *choices      // since the weights last changed
	retry      retrying
	tunnels    tunnels
	asks       asking

	// Nil where the route has no such thing.
	hedge       *hedging
	gate        *gate
	limit       *limited
	permits     *permits
	cache       *cached
	mirror      *mirror
	edits       *edits
	trial       *trial // counts for a rollout
	experiment  *experimenting
	compression *compression

	bodyLimit config.Size // 0: the listener's
	inspect   int64       // how large a body may be that is read whole to look into it; 0: nobody does
}

// overlay are weights set through the API, on top of the split of the file that they were set upon.
// They stand until a reload brings another split.
type overlay struct {
	basis   []config.Variant
	weights []config.Variant
}

// choices counts how often each variant of a route was chosen since its weights last changed.
type choices struct{ byVariant []atomic.Uint64 }

// variant is what is known of one variant of a route. It outlives tables: its identity is the names
// of route and pool.
type variant struct {
	route, pool string
	version     string
	header      []byte // "X-Weir-Variant: blue\r\n"
	live        *variantLive
	asks        bool          // the pool wants to know the load of its endpoints
	load        *load         // of the pool; nil: unbounded
	heads       *heads        // nil where no hedge goes by them
	alike       config.Source // by what the pool's policy keeps requests on an endpoint; its Kind is "" where it does not
}

// variantLive are the figures of a variant. Counting is atomic; nothing on the request path locks.
type variantLive struct {
	requests, errors, spilled atomic.Uint64
	codes                     codeCounts
	calls                     callCounts
	latency                   stats.Histogram
	tunnels                   tunnelLive
	window                    stats.Window
	streams                   streamLive
}

// methods are the label values of requests by method; everything else a client may send is OTHER,
// so that a client cannot make up series.
var methods = [...]string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "OTHER"}

func methodIndex(m []byte) int {
	for i, s := range methods[:len(methods)-1] {
		if string(m) == s {
			return i
		}
	}
	return len(methods) - 1
}

// codeCounts counts requests by method and status code. The counters of a method are made when it
// is first seen.
type codeCounts struct {
	byMethod [len(methods)]atomic.Pointer[[maxCode + 1]atomic.Uint64]
}

const maxCode = 599

func (c *codeCounts) add(method, code int) {
	codes := c.byMethod[method].Load()
	if codes == nil {
		c.byMethod[method].CompareAndSwap(nil, new([maxCode + 1]atomic.Uint64))
		codes = c.byMethod[method].Load()
	}
	codes[code].Add(1)
}

func (c *codeCounts) each(f func(method string, code int, n uint64)) {
	for m := range c.byMethod {
		codes := c.byMethod[m].Load()
		if codes == nil {
			continue
		}
		for code := range codes {
			if n := codes[code].Load(); n > 0 {
				f(methods[m], code, n)
			}
		}
	}
}

func (l *variantLive) observe(method, code int, failed bool, d time.Duration) {
	l.requests.Add(1)
	l.codes.add(method, code)
	l.latency.Record(d)
	if !failed {
		l.window.Record(d)
		return
	}
	l.errors.Add(1)
	l.window.RecordFailed(d)
}
