package proxy

import (
	"math"
	"net/netip"
	"strconv"
	"sync/atomic"
	"time"

	"weir/config"
	"weir/proxy/limit"
)

// limited is the rate limit of a route as its configuration has it. What keys have used outlives tables, as long
// as keys and costs mean the same.
type limited struct {
	cfg    config.RateLimit
	base   *rateTier
	tiers  map[string]*rateTier // by name, beside base
	byKey  map[string]*rateTier
	byNet  []netTier     // where addresses are keys
	total  *limit.Bucket // of all keys; nil: there is none
	policy ratePolicy    // of the total
	live   *limitedLive
}

// rateTier is the limit of some keys. keys may be another table's too.
type rateTier struct {
	rate   float64
	burst  int
	policy ratePolicy
	keys   *limit.Limiter
}

type netTier struct {
	netip.Prefix
	tier *rateTier
}

// limitedLive are the figures of a route's limit. They outlive tables.
type limitedLive struct{ refused, delayed atomic.Uint64 }

// newLimited returns the limit that c asks for, nil where there is none. Rates and bursts come into force when
// the table does (enforce).
func newLimited(c *config.RateLimit, prev *limited) *limited {
	if c == nil {
		return nil
	}
	if prev == nil {
		prev = &limited{live: new(limitedLive)}
	}
	l := &limited{cfg: *c, live: prev.live, tiers: map[string]*rateTier{}, byKey: map[string]*rateTier{}}
	if c.Source != prev.cfg.Source || c.Name != prev.cfg.Name || c.Cost != prev.cfg.Cost || c.MaxKeys != prev.cfg.MaxKeys {
		prev = &limited{}
	}
	if l.total = prev.total; c.Total == 0 {
		l.total = nil
	} else if l.total == nil {
		l.total = limit.NewBucket(float64(c.Total), c.TotalBurst)
	}
	l.policy = newRatePolicy("total", c, c.Total, c.TotalBurst)
	l.base = newRateTier("default", c, config.Tier{Rate: c.Rate, Burst: c.Burst}, prev.base)
	for _, t := range c.Tiers {
		made := newRateTier(t.Name, c, t, prev.tiers[t.Name])
		l.tiers[t.Name] = made
		for _, key := range t.Keys {
			l.byKey[key] = made
			if p, ok := network(key); ok && c.Source == config.AffinityClientIP {
				l.byNet = append(l.byNet, netTier{p, made})
			}
		}
	}
	return l
}

func newRateTier(name string, c *config.RateLimit, t config.Tier, prev *rateTier) *rateTier {
	made := &rateTier{rate: float64(t.Rate), burst: t.Burst, policy: newRatePolicy(name, c, t.Rate, t.Burst)}
	if prev != nil {
		made.keys = prev.keys
		return made
	}
	made.keys = limit.New(made.rate, made.burst, c.MaxKeys)
	return made
}

// network reads an address or a network.
func network(s string) (netip.Prefix, bool) {
	if a, err := parseClient([]byte(s)); err == nil {
		return netip.PrefixFrom(a.Unmap(), a.Unmap().BitLen()), true
	}
	p, err := netip.ParsePrefix(s)
	return p.Masked(), err == nil
}

// enforce puts rates and bursts into force.
func (l *limited) enforce(now int64) {
	l.base.keys.Configure(l.base.rate, l.base.burst, now)
	for _, t := range l.tiers {
		t.keys.Configure(t.rate, t.burst, now)
	}
	if l.total != nil {
		l.total.Configure(float64(l.cfg.Total), l.cfg.TotalBurst, now)
	}
}

// crowded is how often a key found no place in its tier's table.
func (l *limited) crowded() (n uint64) {
	n = l.base.keys.Crowded()
	for _, t := range l.tiers {
		n += t.keys.Crowded()
	}
	return n
}

// sinceStart is the clock of limits.
func (p *Proxy) sinceStart(t time.Time) int64 { return int64(t.Sub(p.started)) }

// meter is what a request has paid so far, and what from, where the rest is known only when its body has been
// read. It lives in the connection's intake.
type meter struct {
	tier  *rateTier // nil: nothing is to be paid later
	total *limit.Bucket
	key   []byte
	cost  string
	paid  float64
}

// meetHead holds a request against the limit before its body is read. What rows cost is not known yet.
func (l *limited) meetHead(r *request) kind {
	switch l.cfg.Cost {
	case config.CostRows:
		return success
	case config.CostBytes:
		return l.take(r, float64(max(r.fields.length, 1)))
	}
	return l.take(r, 1)
}

// meetBody holds a request against a limit of rows once its body was gathered, and takes what is known now of a
// body whose length was not announced.
func (l *limited) meetBody(r *request) kind {
	if l.cfg.Cost == config.CostRows {
		return l.take(r, r.rows())
	}
	if !r.unread() {
		r.in.meter.settle(r)
	}
	return success
}

// take takes the cost from the bucket of the request's key, and from that of all, and waits for its turn where it
// may.
func (l *limited) take(r *request, cost float64) kind {
	most, now := l.cfg.MaxDelay, r.start
	if l.cfg.Cost == config.CostRows || most > 0 {
		now = time.Now() // it may have waited for its body
	}
	if most > 0 {
		most = max(min(most, r.time.total-now.Sub(r.start)), 0)
	}
	key, tier := l.key(r)
	g := tier.keys.Reserve(key, cost, most, r.p.sinceStart(now), l.total)
	if !g.OK {
		l.live.refused.Add(1)
		r.retryAfter, r.refusal = g.Wait, rateRefusal{&tier.policy, g.Remaining}
		if g.ByTotal {
			r.refusal = rateRefusal{policy: &l.policy}
		}
		return rateLimited
	}
	if r.chunkedBody && r.unread() && l.cfg.Cost != config.CostRequests {
		r.in.meter = meter{tier: tier, total: l.total, key: key, cost: l.cfg.Cost, paid: cost}
	}
	if g.Wait == 0 {
		return success
	}
	l.live.delayed.Add(1)
	return r.pauseUntil(now.Add(g.Wait))
}

// settle takes what the body of a request has cost beyond what was known of it. The key's bucket, and that of all,
// may go into debt.
func (m *meter) settle(r *request) {
	if m.tier == nil {
		return
	}
	cost := float64(r.c.bodyRead)
	if m.cost == config.CostRows {
		cost = rowsOfBytes(r.c.bodyRead)
	}
	if cost > m.paid {
		m.tier.keys.Reserve(m.key, cost-m.paid, limit.Never, r.p.sinceStart(time.Now()), m.total)
	}
	*m = meter{}
}

// key is what the request is counted by, and the tier that it belongs to. Where the request has no such text it is
// the client's address, so that leaving it out is no way around the limit. Of an IPv6 address it is the network of
// 64 bits, the least that one client has.
func (l *limited) key(r *request) ([]byte, *rateTier) {
	if l.cfg.Source == config.AffinityClientIP {
		r.in.key = appendNetwork(append(r.in.key[:0], 'a'), r.client)
		for _, n := range l.byNet {
			if config.Covers(n.Prefix, r.client) {
				return r.in.key, n.tier
			}
		}
		return r.in.key, l.tierOf(r)
	}
	text := r.sourceText(config.Source{Kind: l.cfg.Source, Name: l.cfg.Name})
	tier := l.byKey[string(text)]
	if tier == nil {
		tier = l.tierOf(r)
	}
	switch {
	case len(text) > maxKey:
		return text, tier
	case len(text) > 0:
		r.in.key = append(append(r.in.key[:0], 'h'), text...) // no address can be taken for it
	default:
		r.in.key = appendNetwork(append(r.in.key[:0], 'a'), r.client)
	}
	return r.in.key, tier
}

// tierOf is the tier that the request names, or the one of everybody.
func (l *limited) tierOf(r *request) *rateTier {
	if l.cfg.TierBy.Kind != "" {
		if t := l.tiers[string(r.sourceText(l.cfg.TierBy))]; t != nil {
			return t
		}
	}
	return l.base
}

// maxKey is how long a key that is copied may be.
const maxKey = 256

func appendNetwork(b []byte, a netip.Addr) []byte {
	if a.Is4() {
		ip := a.As4()
		return append(b, ip[:]...)
	}
	ip := a.As16()
	return append(b, ip[:8]...)
}

// ratePolicy is a limit as the fields of draft-ietf-httpapi-ratelimit-headers tell it.
type ratePolicy struct{ name, field string }

func newRatePolicy(name string, c *config.RateLimit, rate config.Rate, burst int) ratePolicy {
	p := ratePolicy{name: strconv.Quote(name)}
	window := min(math.Ceil(float64(burst)/max(float64(rate), 1e-9)), 1<<53)
	b := append([]byte("RateLimit-Policy: "), p.name...)
	b = strconv.AppendInt(append(b, ";q="...), int64(burst), 10)
	switch c.Cost {
	case config.CostBytes:
		b = append(b, `;qu="content-bytes"`...)
	case config.CostRows:
		b = append(b, `;qu="rows"`...)
	}
	b = strconv.AppendInt(append(b, ";w="...), int64(max(window, 1)), 10)
	p.field = string(append(b, "\r\n"...))
	return p
}

// rateRefusal is what a request beyond its limit is told of it.
type rateRefusal struct {
	policy    *ratePolicy
	remaining int
}

// appendFields says which limit the request has met, and after how many seconds it would be admitted.
func (f rateRefusal) appendFields(b []byte, after time.Duration) []byte {
	b = appendRetryAfter(b, after)
	if f.policy == nil {
		return b
	}
	b = append(append(append(b, f.policy.field...), "RateLimit: "...), f.policy.name...)
	b = strconv.AppendInt(append(b, ";r="...), int64(f.remaining), 10)
	return append(strconv.AppendInt(append(b, ";t="...), seconds(after), 10), "\r\n"...)
}

// appendRetryAfter says after how many seconds a request would be admitted.
func appendRetryAfter(b []byte, after time.Duration) []byte {
	return append(strconv.AppendInt(append(b, "Retry-After: "...), seconds(after), 10), "\r\n"...)
}

// seconds are rounded up, at least 1.
func seconds(d time.Duration) int64 { return max(int64(math.Ceil(d.Seconds())), 1) }
