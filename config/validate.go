package config

import (
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
)

// validate checks what no value can be wrong about alone: names that refer to others,
// duplicates, sums, and limits that bound each other. What a fault was found in before is
// left out.
func validate(r *report, c *Config) {
	if r.left > 0 {
		return // hopeless; more faults would not be shown
	}
	validateListeners(r, c)
	validateAdmin(r, c)
	validateState(r, c)
	for i := range c.Pools {
		validatePool(r, c, &c.Pools[i])
	}
	validateRouteNames(r, c.Routes)
	validateRouteMatches(r, c.Routes)
	validateLayers(r, c.Routes)
	known := poolNamesOf(c.Pools)
	for i := range c.Routes {
		at, route := item("routes", i), &c.Routes[i]
		validateMatch(r, &route.Match, at+".match")
		validateSplit(r, route.Split, at+".split", known)
		validateOwnAnswer(r, c, route, at)
		validateAffinity(r, route, at+".affinity.fallback")
		validateRouteLimits(r, c, route, at+".limits.body")
		validateRetry(r, route, at)
		validateAround(r, route, at, known)
		validateClientCert(r, c, route, at)
	}
}

func validateListeners(r *report, c *Config) {
	validateAccounts(r, c)
	for i, l := range c.Listeners {
		validateProtocols(r, &l, item("listeners", i)+".protocols")
		validateSocket(r, &l, item("listeners", i))
		validateListenerTLS(r, l.TLS, item("listeners", i)+".tls")
		for j, other := range c.Listeners[:i] {
			if sameSocket(l.Address, other.Address) {
				what := "port"
				if _, ok := UnixPath(l.Address); ok {
					what = "path"
				}
				r.fault(item("listeners", i)+".address", "%s overlaps %s.address %s; every listener needs a %s of its own",
					l.Address, item("listeners", j), other.Address, what)
				break
			}
		}
	}
}

func validateAdmin(r *report, c *Config) {
	const at = "admin.address"
	if !r.sound(at) {
		return
	}
	if !LoopbackAddress(c.Admin.Address) && c.Admin.TokenFile == "" && r.sound("admin.token_file") {
		r.fault(at, "%s can be reached from other machines, and whoever reaches it may change weights; name a file of tokens in admin.token_file, or write a loopback address such as %s",
			c.Admin.Address, DefaultAdmin().Address)
	}
	for i, l := range c.Listeners {
		if sameSocket(l.Address, c.Admin.Address) {
			r.fault(at, "%s overlaps %s.address %s; the admin listener needs a port of its own", c.Admin.Address, item("listeners", i), l.Address)
			break
		}
	}
}

// validateState refuses a state that would be written over a file that something else needs.
func validateState(r *report, c *Config) {
	const at = "state.file"
	if c.State.File == "" || !r.sound("state") {
		return
	}
	type use struct{ key, path string }
	uses := []use{{"this file itself", filepath.Base(c.File)}, {"admin.token_file", c.Admin.TokenFile}, {"log.access.output", c.Log.Access.Output}}
	if t := c.Admin.TLS; t != nil {
		uses = append(uses, use{"admin.tls.cert", t.Cert}, use{"admin.tls.key", t.Key})
	}
	for i := range c.Listeners {
		if t := c.Listeners[i].TLS; t != nil {
			at := item("listeners", i) + ".tls"
			for j, pair := range t.Certificates {
				uses = append(uses, use{item(at+".certificates", j) + ".cert", pair.Cert}, use{item(at+".certificates", j) + ".key", pair.Key})
			}
			uses = append(uses, use{at + ".client_ca", t.ClientCA})
			if a := t.ACME; a != nil {
				uses = append(uses, use{at + ".acme.cache", a.Cache}, use{at + ".acme.ca", a.CA})
			}
		}
	}
	for i := range c.Pools {
		if t := c.Pools[i].TLS; t != nil {
			at := child("pools", c.Pools[i].Name) + ".tls"
			uses = append(uses, use{at + ".ca", t.CA}, use{at + ".cert", t.Cert}, use{at + ".key", t.Key})
		}
	}
	for i := range c.Routes {
		for _, path := range authPaths(c.Routes[i].Auth) {
			uses = append(uses, use{item("routes", i) + ".auth", *path})
		}
	}
	own := filepath.Clean(besideFile(c.File, c.State.File))
	for _, u := range uses {
		if u.path != "" && filepath.Clean(besideFile(c.File, u.path)) == own {
			r.fault(at, "%s is %s, which would be written over; write a path of its own, such as %s", clip(c.State.File), u.key, DefaultState().File)
		}
	}
}

// sameSocket reports whether two listen addresses cannot be opened together. An
// unspecified host takes the port on every address, of both families.
func sameSocket(a, b string) bool {
	if _, ok := UnixPath(a); ok {
		return a == b
	}
	hostA, portA, errA := net.SplitHostPort(a)
	hostB, portB, errB := net.SplitHostPort(b)
	if errA != nil || errB != nil || portA != portB || portA == "0" {
		return false
	}
	return hostA == hostB || everyInterface(hostA) || everyInterface(hostB)
}

func everyInterface(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "" || err == nil && ip.IsUnspecified()
}

// validateProtocols refuses a protocol that is named twice.
func validateProtocols(r *report, l *Listener, at string) {
	for i, p := range l.Protocols {
		if p != "" && slices.Contains(l.Protocols[:i], p) { // "" could not be read
			r.fault(item(at, i), "duplicate protocol %s; name it once", p)
		}
	}
}

func validatePool(r *report, c *Config, p *Pool) {
	at := child("pools", p.Name)
	validateEndpoints(r, c, p.Endpoints, child(at, "endpoints"))
	validateProbe(r, p.Probe, child(at, "probe"))
	validateHealthService(r, p, at)
	validateLoad(r, p, at)
	validateHash(r, p, at)
	if idle := child(child(at, "connections"), "idle"); r.sound(child(at, "connections")) && p.Connections.Idle > p.Connections.Max {
		r.fault(idle, "%d is more than max %d; write at most max", p.Connections.Idle, p.Connections.Max)
	}
	validateOutlier(r, p, at)
	validateSignals(r, p, at)
	validatePoolTLS(r, p.TLS, child(at, "tls"))
	validateProxyProtocol(r, p, at)
	validateScale(r, p, at)
}

// validateOutlier refuses an outlier that could eject nothing, which off says, and what does nothing beside it.
func validateOutlier(r *report, p *Pool, pool string) {
	at, o := child(pool, "outlier"), p.Outlier
	if !r.sound(at) {
		return
	}
	if o == nil {
		if panics := child(pool, "panic_threshold"); p.PanicThreshold > 0 && r.sound(panics) {
			r.fault(panics, "has no effect, because nothing is ejected with outlier: off; leave one of them out")
		}
		return
	}
	if o.ConsecutiveFailures == 0 && o.FailurePercent == 0 && o.SuccessDeviation == 0 && o.LatencyFactor == 0 {
		r.fault(at, "ejects nothing, because consecutive_failures, failure_percent, success_deviation and latency_factor are all 0; raise one of them, or write outlier: off")
	}
	if o.MaxEjection < o.Ejection {
		r.fault(child(at, "max_ejection"), "%s is shorter than the first ejection %s; write at least that",
			FormatDuration(o.MaxEjection), FormatDuration(o.Ejection))
	}
	if o.MaxEjectedPercent == 0 {
		r.fault(child(at, "max_ejected_percent"), "0 would let nothing be ejected; write more, or outlier: off")
	}
}

func validateEndpoints(r *report, c *Config, endpoints []Endpoint, at string) {
	first, sum := map[string]int{}, 0.0
	for i, e := range endpoints {
		sum += e.Weight
		if e.Address == "" {
			continue
		}
		if j, ok := first[e.Address]; ok {
			r.fault(item(at, i), "duplicate endpoint %s; %s is the same: to send it more requests, raise its weight", e.Address, item("endpoints", j))
			continue
		}
		first[e.Address] = i
		if j := slices.IndexFunc(c.Listeners, func(l Listener) bool { return reaches(e.Address, l.Address) }); j >= 0 {
			r.fault(item(at, i), "%s is %s of this weir itself, so that requests would go in circles; write the address of a model server",
				e.Address, item("listeners", j))
		}
	}
	if sum == 0 && len(endpoints) > 0 && r.sound(at) {
		r.fault(at, "every endpoint has weight 0; give one of them more, or take the pool out of service with weight 0 in the split")
	}
}

// reaches reports whether connecting to address ends at the listener, as far as that can
// be told without asking the system.
func reaches(address, listener string) bool {
	return address == listener || sameSocket(address, listener) && LoopbackAddress(address)
}

func validateRouteNames(r *report, routes []Route) {
	first := map[string]int{}
	for i, route := range routes {
		at := item("routes", i) + ".name"
		if !r.sound(at) {
			continue
		}
		if j, ok := first[route.Name]; ok {
			r.fault(at, "duplicate route %q; the first is %s on line %d", route.Name, item("routes", j), r.valueOf(item("routes", j)).line)
			continue
		}
		first[route.Name] = i
	}
}

// validateRouteMatches refuses a route that can never be reached because an earlier one
// matches exactly the same requests.
func validateRouteMatches(r *report, routes []Route) {
	first := map[string]int{}
	for i := range routes {
		at := item("routes", i) + ".match"
		if !r.sound(at) {
			continue
		}
		identity := matchIdentity(&routes[i].Match)
		if j, ok := first[identity]; ok {
			r.fault(at, "matches exactly the requests that %s (%s) takes, so that it could never be reached; change one of them, or put the variants in one split",
				item("routes", j), routes[j].Name)
			continue
		}
		first[identity] = i
	}
}

// matchIdentity is equal for two matches that hold for the same requests because they say
// the same, in whatever order.
func matchIdentity(m *Match) string {
	methods := slices.Sorted(slices.Values(m.Methods))
	headers := make([]string, len(m.Headers))
	for i, h := range m.Headers {
		headers[i] = fmt.Sprintf("%q", []string{strings.ToLower(h.Name), h.Value})
	}
	slices.Sort(headers)
	regex := ""
	if m.PathRegex != nil {
		regex = m.PathRegex.String()
	}
	call := ""
	if m.GRPC != nil {
		call = m.GRPC.Path()
	}
	return fmt.Sprintf("%q %q %q", []string{m.Host, m.Path, m.PathPrefix, regex, call, m.Model, m.ModelVersion}, methods, headers)
}

// validateRouteLimits refuses a limit that does nothing because the listeners' are tighter.
func validateRouteLimits(r *report, c *Config, route *Route, at string) {
	if route.Limits.Body == nil || len(c.Listeners) == 0 || !r.sound(at) || !r.sound("listeners") {
		return
	}
	var widest Size
	for _, l := range c.Listeners {
		widest = max(widest, l.Limits.Body)
	}
	if *route.Limits.Body > widest {
		r.fault(at, "%s has no effect, because listeners refuse bodies beyond %s before; raise listeners[…].limits.body too", *route.Limits.Body, widest)
	}
}

// validateRetry refuses a wait for timeouts that cannot happen.
func validateRetry(r *report, route *Route, at string) {
	on := at + ".retry.on"
	if route.Retry.Attempts == 1 || !slices.Contains(route.Retry.On, RetryTimeout) || !r.sound(on) || !r.sound(at+".timeouts") {
		return
	}
	if route.Timeouts.Attempt >= route.Timeouts.Total {
		r.fault(on, "timeout has no effect, because timeouts.attempt %s is not shorter than timeouts.total %s; shorten timeouts.attempt",
			FormatDuration(route.Timeouts.Attempt), FormatDuration(route.Timeouts.Total))
	}
}

func validateMatch(r *report, m *Match, at string) {
	if m.ModelVersion != "" && m.Model == "" && r.sound(child(at, "model")) {
		r.fault(child(at, "model_version"), "a version says nothing without its model; write model too")
	}
	methods := map[string]bool{}
	for i, method := range m.Methods {
		if methods[method] && method != "" { // "" could not be read
			r.fault(item(child(at, "methods"), i), "duplicate method %s; name it once", method)
		}
		methods[method] = true
	}
	headers := map[string]string{}
	for _, h := range m.Headers {
		lower := strings.ToLower(h.Name)
		if first, ok := headers[lower]; ok {
			key := child(at, "headers")
			r.faultAt(r.keyOf(child(key, h.Name)), key, "duplicate header %s; %s is the same: upper and lower case do not matter", h.Name, first)
			continue
		}
		headers[lower] = h.Name
	}
}

// poolNames are the pools that exist, in the order of the file for messages.
type poolNames struct {
	list []string
	has  map[string]bool
}

func poolNamesOf(pools []Pool) poolNames {
	names := poolNames{has: map[string]bool{}}
	for _, p := range pools {
		names.list = append(names.list, p.Name)
		names.has[p.Name] = true
	}
	return names
}

// validateOwnAnswer: what is always answered by weir goes nowhere else.
func validateOwnAnswer(r *report, c *Config, route *Route, at string) {
	if !r.sound(at) {
		return
	}
	switch split := r.wrote(at + ".split"); {
	case route.Respond != nil && split:
		r.fault(at+".respond", "every request of the route is answered with this, so that none goes to the split; keep one of respond and split")
	case route.Respond != nil && route.Redirect != nil:
		r.fault(at+".respond", "respond and redirect both answer in place of an endpoint; keep one")
	case route.Redirect != nil && route.Redirect.To != "" && split:
		r.fault(at+".redirect.to", "every request of the route is sent there, so that none goes to the split; keep one of redirect.to and split")
	case route.Redirect != nil && route.Redirect.HTTPS && split && len(c.TrustedProxies) == 0 && r.sound("trusted_proxies") &&
		!slices.ContainsFunc(c.Listeners, func(l Listener) bool { return l.TLS != nil }):
		r.fault(at+".redirect.https", "every request of the route is redirected, for ever, because no listener speaks TLS and trusted_proxies is empty, so that nobody can say that a request came by https; give a listener tls, write in trusted_proxies the networks of what ends TLS before weir, or leave split out where https ends elsewhere")
	}
}

func validateSplit(r *report, split []Variant, at string, pools poolNames) {
	sum := 0.0
	for _, v := range split {
		sum += v.Weight
		if !pools.has[v.Pool] && !r.failed["pools"] {
			r.faultAt(r.keyOf(child(at, v.Pool)), at, "unknown pool %q (have %s)", clip(v.Pool), choices(pools.list, ""))
		}
	}
	if sum == 0 && len(split) > 0 && r.sound(at) {
		r.fault(at, "the weights add up to 0; give at least one variant more")
	}
}

func validateAffinity(r *report, route *Route, at string) {
	if route.Affinity == nil || !r.sound(at) {
		return
	}
	switch fallback := route.Affinity.Fallback; {
	case fallback == FallbackRandom, fallback == FallbackClientIP:
	case slices.ContainsFunc(route.Split, func(v Variant) bool { return v.Pool == fallback }):
	default:
		names := make([]string, len(route.Split))
		for i, v := range route.Split {
			names[i] = v.Pool
		}
		r.fault(at, "unknown fallback %q; want %s, %s or a variant of the split (%s)", clip(fallback), FallbackRandom, FallbackClientIP, choices(names, ""))
	}
}
