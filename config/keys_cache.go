package config

import (
	"fmt"
	"slices"
	"strconv"
	"time"
)

func cacheShape() shape[*Cache] {
	return optional[Cache]{fresh: DefaultCache, inner: object[Cache]{fields: []field[Cache]{
		key("ttl", cacheTTLShape(), func(c *Cache) *[]StatusTTL { return &c.TTL },
			"How long an answer of status 200 is fresh that does not say so itself; or a mapping from statuses to that, as in {200: 60s, 404: 5s}. Answers of other statuses are not kept.").must(),
		key("max_bytes", sizeShape(), func(c *Cache) *Size { return &c.MaxBytes },
			"What the answers that are kept for the route may take."),
		key("max_object", sizeShape(), func(c *Cache) *Size { return &c.MaxObject },
			"The largest answer that is kept; at most max_bytes, and max_bytes itself where that is less than the default."),
		key("methods", choicesShape("method", []string{"GET", "HEAD", "POST"}), func(c *Cache) *[]string { return &c.Methods },
			"Of which requests answers are kept: GET, HEAD and POST, which is told apart by its body."),
		key("key", cacheKeyShape(), func(c *Cache) *[]Source { return &c.Key },
			"What else tells requests apart, beside host and target: header:NAME, cookie:NAME, query:NAME or jwt:CLAIM (with auth.jwt)."),
		key("credentials", choiceShape("word", []string{CacheSeparate, CacheShared, CacheBypass}), func(c *Cache) *string { return &c.Credentials },
			"What becomes of requests with Authorization, Cookie or an API key: separate keeps their answers for the same credentials alone; shared makes no difference; bypass neither keeps nor uses any."),
		key("shared_by_variants", boolShape(), func(c *Cache) *bool { return &c.SharedByVariants },
			"Whether a request may get what another variant has answered."),
		key("stale_if_error", pauseShape(0), func(c *Cache) *time.Duration { return &c.StaleIfError },
			"How much longer than fresh an answer is used while endpoints fail. 0s: it is not."),
		key("stale_while_revalidate", pauseShape(0), func(c *Cache) *time.Duration { return &c.StaleWhileRevalidate },
			"How much longer than fresh an answer is used while a new one is fetched. 0s: it is not."),
		key("coalesce", boolShape(), func(c *Cache) *bool { return &c.Coalesce },
			"Whether equal requests wait for the answer to the first of them."),
	}}}
}

// statusTTL is a StatusTTL with the status as the file has it.
type statusTTL struct {
	status string
	ttl    time.Duration
}

// cacheTTLShape is one duration, for status 200, or a mapping.
func cacheTTLShape() shape[[]StatusTTL] {
	return brief[[]StatusTTL]{
		isShort: func(t *[]StatusTTL) bool { return len(*t) == 1 && (*t)[0].Status == 200 },
		short: through[[]StatusTTL, time.Duration]{
			inner: durationShape(),
			get: func(t *[]StatusTTL) (d time.Duration) {
				for _, s := range *t {
					d = s.TTL
				}
				return d
			},
			set: func(t *[]StatusTTL, d time.Duration) {
				if d != 0 { // it could be read
					*t = []StatusTTL{{200, d}}
				}
			},
		},
		long: through[[]StatusTTL, []statusTTL]{
			get: func(t *[]StatusTTL) (named []statusTTL) {
				for _, s := range *t {
					named = append(named, statusTTL{strconv.Itoa(s.Status), s.TTL})
				}
				return named
			},
			set: func(t *[]StatusTTL, named []statusTTL) {
				*t = nil
				for _, s := range named {
					status, _ := strconv.Atoi(s.status)
					*t = append(*t, StatusTTL{status, s.ttl})
				}
				slices.SortFunc(*t, func(a, b StatusTTL) int { return a.Status - b.Status })
			},
			inner: named[statusTTL]{
				noun: "status", least: 1, fresh: func() (s statusTTL) { return s }, name: func(s *statusTTL) *string { return &s.status },
				check: checkCacheStatus, pattern: "^[2-5][0-9][0-9]$",
				elem: part(durationShape(), func(s *statusTTL) *time.Duration { return &s.ttl }),
			},
		},
	}
}

func checkCacheStatus(s string) error {
	status, err := strconv.Atoi(s)
	if err != nil || len(s) != 3 || status < 200 || status > 599 {
		return fmt.Errorf("%q is no status of an answer; write one from 200 to 599", clip(s))
	}
	if status == 206 || status == 304 {
		return fmt.Errorf("an answer of status %s is a part of another, which is not kept; leave it out", s)
	}
	return nil
}

func cacheKeyShape() shape[[]Source] {
	return list[Source]{
		noun: "source", optional: true, least: 1, most: 16, fresh: func() (s Source) { return s },
		elem: plainSource(AffinityHeader, AffinityCookie, AffinityQuery, AffinityJWT),
	}
}

// choicesShape is a list of some of these words.
func choicesShape(noun string, words []string) shape[[]string] {
	return list[string]{
		noun: noun, least: 1, most: len(words), optional: true, fresh: func() string { return "" }, elem: choiceShape(noun, words),
	}
}

func mirrorShape() shape[*Mirror] {
	return optional[Mirror]{fresh: DefaultMirror, inner: object[Mirror]{fields: []field[Mirror]{
		key("pool", optionalTextShape("the name of a pool"), func(m *Mirror) *string { return &m.Pool },
			"The pool that gets copies of requests; nobody gets its answers. It may be one that no split has.").must(),
		key("percent", percentShape(), func(m *Mirror) *float64 { return &m.Percent },
			"The percentage of the route's requests that is copied.").must(),
		key("max_active", countShape(1), func(m *Mirror) *int { return &m.MaxActive },
			"How many copies may be under way; more are not made."),
		key("max_body", sizeShape(), func(m *Mirror) *Size { return &m.MaxBody },
			"The largest body of a request that is copied, and of an answer that is compared."),
		key("timeout", durationShape(), func(m *Mirror) *time.Duration { return &m.Timeout },
			"For the answer to a copy."),
		key("compare", compareShape(), func(m *Mirror) **Compare { return &m.Compare },
			"How the answer to a copy is compared with the one that the client got: true is with all that follows at its default, false is not at all. Default: true."),
	}}}
}

func compareShape() shape[*Compare] {
	return switched[Compare]{optional[Compare]{fresh: DefaultCompare, inner: object[Compare]{fields: []field[Compare]{
		key("fields", list[string]{
			noun: "field", least: 1, most: 64, optional: true, fresh: func() string { return "" }, elem: fieldPathShape(),
		}, func(c *Compare) *[]string { return &c.Fields },
			"Paths of the JSON fields that must agree, as in prediction or outputs.0.data. Absent: the outputs of a V2 answer, the prediction of one of the guide's API, or all of any other."),
		key("tolerance", fractionShape(), func(c *Compare) *float64 { return &c.Tolerance },
			"How far numbers with a fraction may be apart, as a percentage of the larger, or of 1 where both are smaller."),
		key("top_label", boolShape(), func(c *Compare) *bool { return &c.TopLabel },
			"Compares only which of a list of scores is the greatest."),
		key("samples", countScalar(0, 1000), func(c *Compare) *int { return &c.Samples },
			"How many disagreements are kept to look at."),
	}}}}
}
