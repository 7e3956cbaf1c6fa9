package config

import (
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// validateAround checks what a route does beside sending requests to its split.
func validateAround(r *report, route *Route, at string, pools poolNames) {
	validateWithoutEndpoint(r, route, at)
	if d := route.Redirect; d != nil && d.To == "" && !d.HTTPS && r.sound(at+".redirect") {
		r.fault(at+".redirect", "leads nowhere; write to with a URL or a path, or https: true")
	}
	validateRateLimit(r, route.RateLimit, at+".rate_limit")
	validateConcurrency(r, route.Concurrency, at+".concurrency")
	validateHedge(r, route, at)
	validateRollout(r, route.Rollout, at+".rollout")
	validateExperiment(r, route, at+".experiment")
	validateAgreement(r, route, at)
	validateMirror(r, route, at+".mirror", pools)
	validateRewrite(r, route.Rewrite, at+".rewrite")
	validateAuth(r, route.Auth, at+".auth")
	validateWho(r, route, at)
	validateCache(r, route.Cache, at+".cache")
	if c := route.CORS; c != nil && c.Credentials && slices.Contains(c.Origins, "*") && r.sound(at+".cors") {
		r.fault(at+".cors.credentials", "true would let every page of the web ask with a user's cookies, since origins has *; name the origins, or leave credentials out")
	}
	validateFields(r, route, at)
}

// validateWithoutEndpoint refuses, on a route that answers by itself, what only has an effect where requests go to
// an endpoint.
func validateWithoutEndpoint(r *report, route *Route, at string) {
	kind, standard := "", DefaultRoute()
	switch {
	case r.wrote(at + ".split"): // a redirect to https comes before it
		return
	case route.Redirect != nil:
		kind = "redirect"
	case route.Respond != nil:
		kind = "respond"
	default:
		return
	}
	for _, use := range []struct {
		name string
		does bool
	}{
		{"affinity", route.Affinity != nil},
		{"timeouts", route.Timeouts != standard.Timeouts},
		{"limits", route.Limits.Body != nil},
		{"retry", !same(&route.Retry, &standard.Retry)},
		{"rate_limit", route.RateLimit != nil},
		{"hedge", route.Hedge != nil},
		{"rollout", route.Rollout != nil},
		{"experiment", route.Experiment != nil},
		{"concurrency", route.Concurrency != nil},
		{"priority", route.Priority != standard.Priority},
		{"cache", route.Cache != nil},
		{"mirror", route.Mirror != nil},
		{"rewrite", route.Rewrite != nil},
		{"compress", route.Compress != nil},
		{"websocket", route.WebSocket != standard.WebSocket},
		{"stream", route.Stream != standard.Stream},
		{"headers.request", !same(&route.Headers.Request, &standard.Headers.Request)},
	} {
		if key := at + "." + use.name; use.does && r.sound(key) {
			r.fault(key, "has no effect beside %s, which answers before it; leave it out", kind)
		}
	}
	if p := route.Respond; p != nil && p.Body != "" && (p.Status == 204 || p.Status == 205 || p.Status == 304) && r.sound(at+".respond") {
		r.fault(at+".respond.body", "an answer of status %d has none; leave it out, or write another status", p.Status)
	}
}

func validateRateLimit(r *report, l *RateLimit, at string) {
	if l == nil || !r.sound(at) {
		return
	}
	if l.Cost != CostBytes {
		checkBurst(r, l.Burst, at+".burst")
		checkBurst(r, l.TotalBurst, at+".total.burst")
	}
	owner := map[string]string{}
	for _, t := range l.Tiers {
		tier := child(at+".tiers", t.Name)
		if l.Cost != CostBytes {
			checkBurst(r, t.Burst, tier+".burst")
		}
		if len(t.Keys) == 0 && l.TierBy.Kind == "" {
			r.fault(tier, "is nobody's; write keys, or tier_by at the limit")
		}
		for i, key := range t.Keys {
			if other, ok := owner[key]; ok {
				r.fault(item(tier+".keys", i), "%q is a key of the tier %s already; name it once", clip(key), other)
			}
			owner[key] = t.Name
			if l.Source != AffinityClientIP {
				continue
			}
			if _, err := parseNetwork(key); err != nil {
				r.fault(item(tier+".keys", i), "%s", err)
			}
		}
	}
	if l.TierBy.Kind != "" && len(l.Tiers) == 0 {
		r.fault(at+".tier_by", "has no effect without tiers; leave it out, or write tiers")
	}
}

func checkBurst(r *report, burst int, at string) {
	if burst > maxCount {
		r.fault(at, "%d is out of range; write at most %d, or cost: bytes", burst, maxCount)
	}
}

func validateConcurrency(r *report, c *Concurrency, at string) {
	if c == nil || !r.sound(at) {
		return
	}
	switch {
	case c.Max == 0 && c.Total == 0:
		r.fault(at, "bounds nothing; write max, or total")
	case c.Key.Kind == "" && c.Max > 0 && c.Total > 0:
		r.fault(at+".total", "is what max is with key: %s; keep one of them, or write a key such as client_ip", wordRoute)
	case c.Key.Kind != "" && c.Max == 0:
		r.fault(at+".key", "has no effect without max; write max, or leave key out")
	case c.Total > 0 && c.Max > c.Total:
		r.fault(at+".max", "%d is more than total %d; write at most total", c.Max, c.Total)
	}
}

func validateHedge(r *report, route *Route, at string) {
	h, hedge := route.Hedge, at+".hedge"
	if h == nil || !r.sound(hedge) || !r.sound(at+".timeouts") {
		return
	}
	if h.Delay >= min(route.Timeouts.Attempt, route.Timeouts.Total) {
		r.fault(hedge+".delay", "%s has no effect, because timeouts.attempt %s ends an attempt before; write less, or a percentile such as p95",
			FormatDuration(h.Delay), FormatDuration(min(route.Timeouts.Attempt, route.Timeouts.Total)))
	}
	if h.BudgetPercent == 0 {
		r.fault(hedge+".budget_percent", "0 would let only 10 in any 10 s be sent; write more, or leave hedge out")
	}
}

// validateRollout checks that the steps lead somewhere.
func validateRollout(r *report, o *Rollout, at string) {
	if o == nil || !r.sound(at) {
		return
	}
	validateAuto(r, o, at)
	validateSteps(r, o.Steps, at)
	if c := o.Checks; c.WarmUp > 0 && len(c.Requests) == 0 {
		r.fault(at+".checks.warm_up", "has no request to make; write requests, or leave it out")
	}
	validateAnalysis(r, o.Analysis, at+".analysis")
}

// validateSteps checks that they lead to all of the requests.
func validateSteps(r *report, steps []RolloutStep, at string) {
	if len(steps) == 0 {
		return // of auto
	}
	before := 0.0
	for i, s := range steps {
		if s.Weight <= before {
			r.fault(item(at+".steps", i)+".weight", "%s is no more than what the new version has before the step, %s; write a greater one",
				formatNumber(s.Weight), formatNumber(before))
		}
		before = s.Weight
	}
	if before != 100 {
		r.fault(item(at+".steps", len(steps)-1)+".weight", "the last step leaves the new version at %s %%; write another of weight 100", formatNumber(before))
	}
}

// validateAuto checks that the weights of auto lead from one to the other.
func validateAuto(r *report, o *Rollout, at string) {
	a := o.Auto
	switch {
	case o.Strategy == StrategyAuto && len(o.Steps) > 0:
		r.fault(at+".steps", "have no effect: the weights of the strategy auto follow from auto; leave them out")
	case a.Min >= a.Max:
		r.fault(at+".auto.min", "%s is no less than max, %s; write less", formatNumber(a.Min), formatNumber(a.Max))
	case a.Step < 1:
		r.fault(at+".auto.step", "%s is too little; write at least 1", formatNumber(a.Step))
	case a.Keep && o.Analysis == nil:
		r.fault(at+".auto.keep", "has nothing to judge by, as analysis is off; write an analysis, or leave it out")
	}
}

// validateAgreement checks that there are answers to compare.
func validateAgreement(r *report, route *Route, at string) {
	o := route.Rollout
	if o == nil || o.Analysis == nil || o.Analysis.Agreement == nil || !r.sound(at+".rollout") || !r.sound(at+".mirror") {
		return
	}
	if route.Mirror == nil || route.Mirror.Compare == nil {
		r.fault(at+".rollout.analysis.agreement", "has nothing to go by; write a mirror of the route to the new version's pool that compares, or leave it out")
	}
}

// validateAnalysis checks that there is something to judge by.
func validateAnalysis(r *report, a *Analysis, at string) {
	switch {
	case a == nil:
	case a.ErrorRate == nil && a.SLO == nil && a.Latency == nil && len(a.Prometheus) == 0 && a.Agreement == nil && a.Drift == nil && a.GPU == nil && a.Experiment == nil:
		r.fault(at, "judges nothing; write error_rate, slo or latency, or analysis: off")
	case a.Drift != nil && a.Drift.MaxPSI == 0 && a.Drift.MaxKS == 0:
		r.fault(at+".drift", "bounds nothing; write max_psi or max_ks")
	case a.GPU != nil && a.GPU.MaxUtilization == 0 && a.GPU.MaxMemory == 0:
		r.fault(at+".gpu", "bounds nothing; write max_utilization or max_memory")
	default:
		names := map[string]bool{}
		for i, p := range a.Prometheus {
			if names[p.Name] {
				r.fault(item(at+".prometheus", i)+".name", "%q is the name of another query, too; write another one", clip(p.Name))
			}
			names[p.Name] = true
			if p.Min != nil && p.Max != nil && *p.Min > *p.Max {
				r.fault(item(at+".prometheus", i)+".min", "%s is more than max, %s; nothing would do", formatNumber(*p.Min), formatNumber(*p.Max))
			}
		}
	}
}

func validateMirror(r *report, route *Route, at string, pools poolNames) {
	m := route.Mirror
	if m == nil || !r.sound(at) {
		return
	}
	if !pools.has[m.Pool] && !r.failed["pools"] {
		r.fault(at+".pool", "unknown pool %q (have %s)", clip(m.Pool), choices(pools.list, ""))
	}
	for _, v := range route.Split {
		if v.Pool == m.Pool && v.Weight > 0 {
			r.fault(at+".pool", "%s is a variant of the split, so that it would get copies of its own requests; write another pool, or give the variant weight 0", m.Pool)
		}
	}
	if m.Percent == 0 {
		r.fault(at+".percent", "0 copies nothing; write more, or leave mirror out")
	}
}

func validateRewrite(r *report, w *Rewrite, at string) {
	if w == nil || !r.sound(at) {
		return
	}
	switch {
	case *w == (Rewrite{}) || *w == (Rewrite{Replacement: w.Replacement}):
		r.fault(at, "changes nothing; write strip_prefix, add_prefix, path, or regex with replacement")
	case w.Replacement != "" && w.Regex == nil:
		r.fault(at+".replacement", "has no effect without regex; leave it out, or write regex")
	case w.Path != "" && w.AddPrefix != "":
		r.fault(at+".add_prefix", "is in front of path, which is always the same; write path: %s", clip(w.AddPrefix+w.Path))
	case w.Regex != nil:
		for _, name := range groupsIn(w.Replacement) {
			if n, err := strconv.Atoi(name); err == nil && n > w.Regex.NumSubexp() || err != nil && !slices.Contains(w.Regex.SubexpNames(), name) {
				r.fault(at+".replacement", "regex has no group %q, but %s; write $1 for the first, $${1} where a letter follows, and $$$$ for a dollar sign", clip(name), count(w.Regex.NumSubexp(), "group"))
				return
			}
		}
	}
}

// groupsIn are the groups that a replacement names, as regexp.Expand reads them.
func groupsIn(replacement string) (names []string) {
	for _, m := range groupReference.FindAllStringSubmatch(replacement, -1) {
		if name := m[1] + m[2]; name != "" {
			names = append(names, name)
		}
	}
	return names
}

var groupReference = regexp.MustCompile(`\$(?:\$|(\w+)|\{(\w+)\})`)

func validateAuth(r *report, a *Auth, at string) {
	if a != nil && *a == (Auth{}) && r.sound(at) {
		r.fault(at, "asks for nothing, and would let nobody in; write basic, api_key or jwt, or leave it out")
	}
}

// validateWho refuses what depends on who asks where nobody is asked for that.
func validateWho(r *report, route *Route, at string) {
	if !r.sound(at + ".auth") {
		return
	}
	hasKey := route.Auth != nil && route.Auth.APIKey != nil
	hasToken := route.Auth != nil && route.Auth.JWT != nil
	needs := func(key, kind string) {
		switch {
		case !r.sound(key):
		case kind == AffinityJWT && !hasToken:
			r.fault(key, "needs the token of auth.jwt, which the route does not ask for; write auth.jwt, or another source")
		case kind == AffinityAPIKey && !hasKey:
			r.fault(key, "needs the key of auth.api_key, which the route does not ask for; write auth.api_key, or another source")
		}
	}
	if a := route.Affinity; a != nil {
		needs(at+".affinity.key", a.Source)
	}
	if l := route.RateLimit; l != nil {
		needs(at+".rate_limit.key", l.Source)
		needs(at+".rate_limit.tier_by", l.TierBy.Kind)
	}
	if c := route.Concurrency; c != nil {
		needs(at+".concurrency.key", c.Key.Kind)
	}
	if c := route.Cache; c != nil {
		for i, s := range c.Key {
			needs(item(at+".cache.key", i), s.Kind)
		}
	}
	text := func(key, s string) {
		token, user := templateNeeds(s)
		if token {
			needs(key, AffinityJWT)
		}
		if user && route.Auth == nil && r.sound(key) {
			r.fault(key, "{user} is who auth has let in, and the route has no auth; write auth, or leave the variable out")
		}
	}
	if route.Redirect != nil {
		text(at+".redirect.to", route.Redirect.To)
	}
	for _, change := range headerChanges(route, at) {
		for _, h := range change.fields {
			text(child(change.key, h.Name), h.Value)
		}
	}
}

// namedFields are fields of a route, below a key.
type namedFields struct {
	key    string
	fields []Header
}

func headerChanges(route *Route, at string) []namedFields {
	h := &route.Headers
	return []namedFields{
		{at + ".headers.request.set", h.Request.Set}, {at + ".headers.request.add", h.Request.Add},
		{at + ".headers.response.set", h.Response.Set}, {at + ".headers.response.add", h.Response.Add},
	}
}

// validateFields refuses names that are the same but for upper and lower case, of which one would be lost.
func validateFields(r *report, route *Route, at string) {
	lists := headerChanges(route, at)
	if route.Respond != nil {
		lists = append(lists, namedFields{at + ".respond.headers", route.Respond.Headers})
	}
	for _, l := range lists {
		first := map[string]string{}
		for _, h := range l.fields {
			lower := strings.ToLower(h.Name)
			if other, ok := first[lower]; ok {
				r.faultAt(r.keyOf(child(l.key, h.Name)), l.key, "duplicate header %s; %s is the same: upper and lower case do not matter", h.Name, other)
			}
			first[lower] = h.Name
		}
	}
}

func validateCache(r *report, c *Cache, at string) {
	if c == nil || !r.sound(at) {
		return
	}
	if c.MaxObject > c.MaxBytes {
		r.fault(at+".max_object", "%s is more than max_bytes %s; write at most that", c.MaxObject, c.MaxBytes)
	}
}
