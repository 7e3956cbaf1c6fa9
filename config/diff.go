package config

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v4"
)

// Difference is one thing that two configurations say differently. Values are as a file would have
// them, on one line. There are no secrets among them: a configuration has only the paths of files that
// hold some.
type Difference struct {
	// Key is the path of the key, with names in place of indices: routes.predict.split.green. Of a list
	// without names (trusted_proxies, methods) it is the list's, once for each item that came or went.
	Key string `json:"key"`
	// Before is "" where the key came, After where it went; then the other one sums up what came or
	// went. Both are "" where nothing but the order changed.
	Before string `json:"before,omitempty"`
	After  string `json:"after,omitempty"`
}

// String writes the difference on one line, long values shortened:
// routes.predict.timeouts.total: 5m → 1m40s, pools.green: added (2 endpoints).
func (d Difference) String() string {
	switch {
	case d.Before == "" && d.After == "":
		return d.Key + ": order changed"
	case d.Before == "":
		return d.Key + ": added (" + shorten(d.After) + ")"
	case d.After == "":
		return d.Key + ": removed (" + shorten(d.Before) + ")"
	}
	return d.Key + ": " + shorten(d.Before) + " → " + shorten(d.After)
}

// shorten keeps a line, of which a history has many, from being as long as a value may be.
func shorten(value string) string {
	const most = 160
	if len(value) <= most {
		return value
	}
	return strings.ToValidUTF8(value[:most], "") + "…"
}

// Diff returns what is different in next, in the order of its file, what is gone behind what stands
// there. Pools, routes and variants are known by their names, listeners and endpoints by their
// addresses. None means that both ask for the same, whatever they were read from: a default that is
// written out is no difference, nor is the order of a list where it decides nothing.
func Diff(old, next *Config) []Difference {
	d := new(differ)
	fileShape().diff(d, "", old, next)
	return d.found
}

// ChildKey is the path of a name below a key as differences and faults have it: quoted where it would be
// misread.
func ChildKey(parent, name string) string { return child(parent, name) }

// Summary says in a few words how much a configuration holds.
func (c *Config) Summary() string {
	endpoints := 0
	for i := range c.Pools {
		endpoints += len(c.Pools[i].Endpoints)
	}
	return count(len(c.Listeners), "listener") + ", " + count(len(c.Routes), "route") + ", " +
		count(len(c.Pools), "pool") + " with " + count(endpoints, "endpoint")
}

func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return strconv.Itoa(n) + " " + noun + "s"
}

// differ collects differences.
type differ struct{ found []Difference }

func (d *differ) add(key, before, after string) {
	d.found = append(d.found, Difference{key, before, after})
}

// inline writes a node that encode made on one line; "" for nil, which is a key that is left out.
func inline(n *yaml.Node) string {
	if n == nil {
		return ""
	}
	var parts []string
	switch n.Kind {
	case yaml.MappingNode:
		for i := 0; i < len(n.Content); i += 2 {
			parts = append(parts, inline(n.Content[i])+": "+inline(n.Content[i+1]))
		}
		return "{" + strings.Join(parts, ", ") + "}"
	case yaml.SequenceNode:
		for _, c := range n.Content {
			parts = append(parts, inline(c))
		}
		return "[" + strings.Join(parts, ", ") + "]"
	}
	if n.Tag == "!!str" && !plainText(n.Value) {
		return strconv.Quote(n.Value)
	}
	return n.Value
}

// plainText reports whether a text may stand in a file without quotes, and is read as a text there.
func plainText(s string) bool {
	if s == "" || !only(s, keyLetters+"./:") || strings.ContainsAny(s[:1], "-.:") || s[len(s)-1] == ':' {
		return false
	}
	return !numberLike.MatchString(s) && !strings.EqualFold(s, "true") && !strings.EqualFold(s, "false") && !strings.EqualFold(s, "null")
}

// numberLike matches all numbers of YAML that begin with a digit, and some texts.
var numberLike = regexp.MustCompile(`^[0-9][0-9a-fA-FxXoO_]*\.?[0-9_]*([eE][-+]?[0-9]+)?$`)

// The sums of what came or went, where all that it says would be too much.

func sumListener(l *Listener) string { return "at most " + count(l.Limits.Connections, "connection") }

func sumPool(p *Pool) string {
	if p.Discover != nil {
		return "endpoints of " + p.Discover.DNS
	}
	return count(len(p.Endpoints), "endpoint")
}

func sumEndpoint(e *Endpoint) string {
	sum := "weight " + formatNumber(e.Weight)
	if e.Capacity != 0 {
		sum += ", capacity " + e.Capacity.String()
	}
	return sum
}

func sumRoute(r *Route) string {
	sum := "split: " + inline(splitShape().encode(&r.Split))
	switch {
	case len(r.Split) > 0:
	case r.Redirect != nil:
		sum = "redirect: " + inline(redirectShape().encode(&r.Redirect))
	case r.Respond != nil:
		sum = "respond: status " + strconv.Itoa(r.Respond.Status)
	}
	if match := matchShape().encode(&r.Match); len(match.Content) > 0 {
		sum = "match: " + inline(match) + ", " + sum
	}
	return sum
}

// reordered reports whether routes that both lists have are in another order where that may decide which
// of them gets a request: see the reference of routes. before are the places in old of next's routes.
func reordered(old, next []Route, before []int) bool {
	keys := newRouteTies(old, next)
	last := map[string]int{}
	for i, k := range before {
		if k < 0 {
			continue
		}
		key := keys.of(&next[i].Match)
		if key != keys.of(&old[k].Match) { // which is a difference of its own
			continue
		}
		if k < last[key] {
			return true
		}
		last[key] = k
	}
	return false
}

// routeTies tells which routes only their order can decide between.
type routeTies struct {
	// odd is set where paths are written that may mean the same as others, such as /a%62 and /ab. How is
	// the matcher's affair; they count as if all were the same.
	odd bool
}

func newRouteTies(lists ...[]Route) routeTies {
	for _, routes := range lists {
		for i := range routes {
			path := pathOf(&routes[i].Match)
			if !only(path, keyLetters+"/.~") || strings.Contains(path, "//") {
				return routeTies{odd: true}
			}
		}
	}
	return routeTies{}
}

// of is the same for routes that tie: regular expressions of a host by their order alone, others where
// they have the same path and as many conditions.
func (t routeTies) of(m *Match) string {
	if m.PathRegex != nil {
		return m.Host + " regex"
	}
	path := ""
	switch {
	case m.Path != "", m.GRPC != nil && m.GRPC.Method != "":
		path = "exact " + pathOf(m)
	case m.PathPrefix != "", m.GRPC != nil:
		path = "prefix " + pathOf(m)
	}
	if t.odd {
		path, _, _ = strings.Cut(path, " ")
	}
	return fmt.Sprint(m.Host, " ", path, " ", m.Conditions())
}

// pathOf is the path or the prefix that the match demands; "" where it is a regular expression, or there is none.
func pathOf(m *Match) string {
	if m.GRPC != nil {
		return m.GRPC.Path()
	}
	return m.Path + m.PathPrefix
}
