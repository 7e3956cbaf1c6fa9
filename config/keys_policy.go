package config

// policyText is what the reference says of a pool's policy.
const policyText = "How an endpoint is picked. round_robin: smooth weighted. least_request: fewest in flight by weight; beyond 64 endpoints, of eight at random. two_choices: the less busy of two at random. " +
	"peak_ewma: least latency times requests in flight, with a memory for peaks. prequal: least latency among those that have not the most requests in flight. " +
	"utilization: round robin by weights that follow what the endpoints report of their load. hash: requests alike go to the same endpoint, see hash. random: by weight alone."

func hashShape() shape[*Hash] {
	return optional[Hash]{fresh: DefaultHash, inner: object[Hash]{fields: []field[Hash]{
		key("key", plainSource(AffinityHeader, AffinityCookie, AffinityQuery, AffinityClientIP, AffinityJSON), func(h *Hash) *Source { return &h.Key },
			"Where a request says which it is like: header:NAME, cookie:NAME, query:NAME, client_ip or json:PATH, a field of the body. Requests that do not say go where the fewest are in flight.").must(),
		key("max_load", wideShare(10_000), func(h *Hash) *float64 { return &h.MaxLoad },
			"The percentage of the pool's mean of requests in flight, 100 at least, that an endpoint may have for its weight; beyond it the next one on the ring gets its requests. 0: there is no bound."),
	}}}
}

// validateHash checks that a pool has a hash if and only if its policy goes by one.
func validateHash(r *report, p *Pool, at string) {
	if !r.sound(child(at, "policy")) || !r.sound(child(at, "hash")) {
		return
	}
	switch {
	case p.Policy == "hash" && p.Hash == nil:
		r.fault(child(at, "policy"), "hash needs to know what requests have in common; write hash: {key: \"header:X-User-ID\"} beside it, with a header, cookie or query of yours, client_ip, or a json field")
	case p.Policy != "hash" && p.Hash != nil:
		r.fault(child(at, "hash"), "has no effect with policy: %s; write policy: hash, or leave it out", p.Policy)
	case p.Hash != nil && p.Hash.MaxLoad > 0 && p.Hash.MaxLoad < 100:
		r.fault(child(at, "hash")+".max_load", "%s is less than every endpoint has when all have alike; write 100 or more, or 0 for no bound", formatNumber(p.Hash.MaxLoad))
	}
}
