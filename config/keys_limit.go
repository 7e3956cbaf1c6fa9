package config

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// maxBurst bounds a burst of bytes; others are bounded as counts are.
const maxBurst = 1_000_000_000_000

func burstShape() shape[int] { return unlessZero[int](countScalar(1, maxBurst)) }

func rateLimitShape() shape[*RateLimit] {
	return optional[RateLimit]{fresh: DefaultRateLimit, inner: object[RateLimit]{fields: []field[RateLimit]{
		key("key", rateLimitKeyShape(), func(l *RateLimit) *RateLimit { return l },
			"What tells clients apart: client_ip, client_cert (whom the certificate names: its first URI, else DNS name, else common name; with client_ca on a listener), header:NAME, api_key (with auth.api_key) or jwt:CLAIM (with auth.jwt)."),
		key("rate", rateShape(), func(l *RateLimit) *Rate { return &l.Rate },
			"The requests of each client, as in 10/s, 600/m or 0.5/s; or the bytes or rows, as cost says.").must(),
		key("burst", burstShape(), func(l *RateLimit) *int { return &l.Burst },
			"Requests of a client that may come at once. Default: what rate allows in a second, rounded up."),
		key("cost", choiceShape("cost", []string{CostRequests, CostBytes, CostRows}), func(l *RateLimit) *string { return &l.Cost },
			"What is counted: requests; bytes of their bodies; or rows, which are the batch of a V2 request, or the rows of the features of the guide's API."),
		key("max_delay", pauseShape(0), func(l *RateLimit) *time.Duration { return &l.MaxDelay },
			"How long a request beyond the rate may be held until it is within it. 0s: it is refused at once."),
		key("total", totalRateShape(), func(l *RateLimit) *RateLimit { return l },
			"A limit of all clients together, beside that of each. Absent: there is none."),
		key("tiers", tiersShape(), func(l *RateLimit) *[]Tier { return &l.Tiers },
			"Other rates for some clients, by the name of their tier."),
		key("tier_by", tierByShape(), func(l *RateLimit) *Source { return &l.TierBy },
			"Where the name of a client's tier is read: jwt:CLAIM (with auth.jwt) or header:NAME. A tier that has the client among its keys comes first. Absent: by keys alone."),
		key("max_keys", countShape(1), func(l *RateLimit) *int { return &l.MaxKeys },
			"How many clients of a tier are remembered, 16 bytes each; what comes beyond them shares a limit."),
	}}}
}

// totalRate is the limit of all keys together; it has no rate where there is none.
type totalRate struct {
	rate  Rate
	burst int
}

func totalRateShape() shape[RateLimit] {
	return through[RateLimit, *totalRate]{
		get: func(l *RateLimit) *totalRate {
			if l.Total == 0 && l.TotalBurst == 0 {
				return nil
			}
			return &totalRate{l.Total, l.TotalBurst}
		},
		set: func(l *RateLimit, t *totalRate) { l.Total, l.TotalBurst = t.rate, t.burst },
		inner: optional[totalRate]{fresh: func() (t totalRate) { return t }, inner: object[totalRate]{fields: []field[totalRate]{
			key("rate", rateShape(), func(t *totalRate) *Rate { return &t.rate },
				"The requests of all clients, as in 1000/s.").must(),
			key("burst", burstShape(), func(t *totalRate) *int { return &t.burst },
				"Requests that may come at once. Default: what rate allows in a second, rounded up."),
		}}},
	}
}

func tiersShape() shape[[]Tier] {
	return named[Tier]{
		noun: "tier", fresh: func() (t Tier) { return t }, name: func(t *Tier) *string { return &t.Name },
		check: checkName, pattern: namePattern, elem: object[Tier]{fields: []field[Tier]{
			key("rate", rateShape(), func(t *Tier) *Rate { return &t.Rate },
				"The rate of each client of the tier.").must(),
			key("burst", burstShape(), func(t *Tier) *int { return &t.Burst },
				"What may come at once. Default: what rate allows in a second, rounded up."),
			key("keys", textsShape("key", "a key such as acme"), func(t *Tier) *[]string { return &t.Keys },
				"Clients that belong to it, as key tells them; of client_ip also networks."),
		}},
	}
}

// textsShape is a list of texts that may be absent.
func textsShape(noun, want string) shape[[]string] {
	return list[string]{noun: noun, least: 1, optional: true, fresh: func() string { return "" }, elem: scalar[string]{
		want: want, free: true, parse: parsePlainText, format: verbatim, body: textSchema,
	}}
}

func parsePlainText(s string) (string, error) {
	if s == "" {
		return "", fmt.Errorf("%q is empty; leave it out", s)
	}
	return parseText(s)
}

// tierByShape is a source that may be absent.
func tierByShape() shape[Source] { return plainSource(AffinityJWT, AffinityHeader) }

// plainSource is a Source of one of the kinds, written as one text.
func plainSource(kinds ...string) shape[Source] {
	return through[Source, source]{
		get:   func(s *Source) source { return source{s.Kind, s.Name} },
		set:   func(s *Source, from source) { s.Kind, s.Name = from.kind, from.name },
		inner: sourceShape(kinds...),
	}
}

func concurrencyShape() shape[*Concurrency] {
	return optional[Concurrency]{fresh: DefaultConcurrency, inner: object[Concurrency]{fields: []field[Concurrency]{
		key("key", concurrencyKeyShape(), func(c *Concurrency) *Source { return &c.Key },
			"What tells clients apart: client_ip, client_cert, header:NAME, api_key (with auth.api_key), jwt:CLAIM (with auth.jwt), or route for all of the route together."),
		key("max", derivedCountShape(), func(c *Concurrency) *int { return &c.Max },
			"Requests of each client under way at one time; further ones wait in the queue, or are refused with 503. Absent: total alone."),
		key("total", derivedCountShape(), func(c *Concurrency) *int { return &c.Total },
			"Requests of all clients under way. Absent: no bound."),
		key("queue", queueShape(), func(c *Concurrency) *Queue { return &c.Queue },
			"Where requests wait for their turn. Absent: they do not wait."),
	}}}
}

// wordRoute is the key that tells no clients apart.
const wordRoute = "route"

func concurrencyKeyShape() shape[Source] {
	return through[Source, source]{
		get: func(s *Source) source {
			if *s == (Source{}) {
				return source{kind: wordRoute}
			}
			return source{s.Kind, s.Name}
		},
		set: func(s *Source, from source) {
			if *s = (Source{Kind: from.kind, Name: from.name}); from.kind == wordRoute {
				*s = Source{}
			}
		},
		inner: sourceShape(AffinityClientIP, AffinityClientCert, AffinityHeader, AffinityAPIKey, AffinityJWT, wordRoute),
	}
}

func priorityShape() shape[Priority] {
	class := func(p *Priority) *string { return &p.Class }
	return brief[Priority]{
		isShort: func(p *Priority) bool { return p.Header == "" },
		short:   part(choiceShape("class", Priorities()), class),
		long: object[Priority]{fields: []field[Priority]{
			key("class", choiceShape("class", Priorities()), class,
				"The class of requests without the header, or with another value: high, normal or low."),
			key("header", headerNameShape(), func(p *Priority) *string { return &p.Header },
				"The header in which a request names its class. Absent: every request has class."),
		}},
	}
}

func headerNameShape() shape[string] {
	return scalar[string]{
		want: "the name of a header", free: true, optional: true, format: verbatim,
		parse: func(s string) (string, error) { return s, checkToken(s, "header") },
		body:  func() schema { return orVariable(schema{"type": "string", "minLength": 1}) },
	}
}

// timeoutHeaderShape is the name of a header, or off.
func timeoutHeaderShape() shape[string] {
	return scalar[string]{
		want: "the name of a header, or off", free: true, off: true,
		parse: func(s string) (string, error) {
			if s == wordOff {
				return "", nil
			}
			return s, checkToken(s, "header")
		},
		format: func(s string) string {
			if s == "" {
				return wordOff
			}
			return s
		},
		body: func() schema { return orVariable(schema{"type": "string", "minLength": 1}, offSchema()) },
	}
}

func hedgeShape() shape[*Hedge] {
	return optional[Hedge]{fresh: DefaultHedge, inner: object[Hedge]{fields: []field[Hedge]{
		key("delay", hedgeDelayShape(), func(h *Hedge) *Hedge { return h },
			"When a second attempt goes to another endpoint: after a duration, or when the first is slower than a percentile of the route's recent ones, as in p95."),
		key("budget_percent", percentShape(), func(h *Hedge) *float64 { return &h.BudgetPercent },
			"In any 10 s, at most this percentage of the route's requests is sent a second time, or 10 where that is more."),
	}}}
}

// hedgeDelay is Delay or Percentile of a hedge, which the file has as one text.
type hedgeDelay struct {
	after      time.Duration
	percentile float64
}

func hedgeDelayShape() shape[Hedge] {
	return through[Hedge, hedgeDelay]{
		get: func(h *Hedge) hedgeDelay { return hedgeDelay{h.Delay, h.Percentile} },
		set: func(h *Hedge, d hedgeDelay) { h.Delay, h.Percentile = d.after, d.percentile },
		inner: scalar[hedgeDelay]{
			want: "a percentile such as p95, or a duration such as 20ms", parse: parseHedgeDelay,
			format: func(d hedgeDelay) string {
				if d.after != 0 {
					return FormatDuration(d.after)
				}
				return "p" + formatNumber(d.percentile)
			},
			body: func() schema {
				return orVariable(schema{"type": "string", "pattern": `^(p[0-9]+(\.[0-9]+)?|([0-9.]+(h|m|s|ms|us|µs|μs|ns))+)$`})
			},
		},
	}
}

func parseHedgeDelay(s string) (hedgeDelay, error) {
	if digits, ok := strings.CutPrefix(s, "p"); ok {
		p, err := strconv.ParseFloat(digits, 64)
		if err != nil || !plainNumber(digits) {
			return hedgeDelay{}, fmt.Errorf("%q is no percentile; write one such as p95 or p99.9", clip(s))
		}
		return hedgeDelay{percentile: p}, checkPercentile(p)
	}
	d, err := ParseDuration(s)
	if err != nil {
		return hedgeDelay{}, fmt.Errorf("%q is no percentile and no duration; write one such as p95 or 20ms", clip(s))
	}
	if d <= 0 {
		return hedgeDelay{}, fmt.Errorf("%q is not more than 0; write a duration such as 20ms", clip(s))
	}
	return hedgeDelay{after: d}, nil
}
