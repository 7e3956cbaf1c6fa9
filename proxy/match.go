package proxy

import (
	"bytes"
	"cmp"
	"slices"
	"strings"

	"weir/config"
)

// router finds the route of a request. It is built once for a snapshot and never changed,
// so any number of requests may use it at once without a lock.
//
// The order is that of the interface: the exact host, then wildcard hosts by longest suffix,
// then routes without a host; on each of these levels the exact path, the longest prefix of
// whole segments, the regular expressions in file order, and last the routes without a path.
// A slash at the end of a prefix does not count (/api/ is /api), in an exact path it does. A regular
// expression finds its match anywhere in the path unless it is anchored.
// Among routes that tie, the one with more conditions (methods, headers) comes first, then file
// order. A route whose methods or headers do not match is passed over, also from one host level
// to the next.
//
// The cost does not depend on the number of routes as far as they differ by host, exact path or
// prefix: it grows with the labels of the host and the segments of the longest prefix. Regular
// expressions, and routes that differ only in methods or headers, are tried one after the other.
type router struct {
	exact    map[string]*pathTable // by canonical host
	wildcard map[string]*pathTable // by suffix: ".example.com" for *.example.com
	any      *pathTable            // routes without a host
}

// pathTable holds the routes of one host level.
type pathTable struct {
	exact    map[string][]candidate // by normalised path
	prefixes *prefixNode            // the root stands for the prefix "/"
	regexes  []regexCandidate       // in file order
	rest     []candidate            // routes without a path
}

// prefixNode is a node of the tree of prefixes, one level for each segment. The parent leads
// from the longest prefix back to the shorter ones.
type prefixNode struct {
	parent     *prefixNode
	children   map[string]*prefixNode
	candidates []candidate
}

// candidate is a route whose host and path match: what is left to check.
type candidate struct {
	index   int // in the configuration
	methods []string
	headers []config.Header
}

type regexCandidate struct {
	re *config.Regexp
	candidate
}

// newRouter builds the router of routes. The routes must be valid (config.Load checks them) and
// stay unchanged. Paths are normalised like those of requests, hosts lower-cased.
func newRouter(routes []config.Route) *router {
	r := &router{
		exact:    map[string]*pathTable{},
		wildcard: map[string]*pathTable{},
		any:      newPathTable(),
	}
	for i := range routes {
		m := &routes[i].Match
		c := candidate{index: i, methods: m.Methods, headers: demands(m)}
		r.tableFor(m.Host).add(m, c)
	}
	for _, t := range r.tables() {
		t.sort()
	}
	return r
}

// tableFor returns the table of a configured host, made when it is new.
func (r *router) tableFor(host string) *pathTable {
	if host == "" {
		return r.any
	}
	tables, key := r.exact, strings.TrimSuffix(strings.ToLower(host), ".")
	if suffix, ok := strings.CutPrefix(key, "*."); ok {
		tables, key = r.wildcard, "."+suffix
	} else if strings.Contains(key, ":") && !strings.HasPrefix(key, "[") {
		key = "[" + key + "]" // an IPv6 address, which a request always brackets
	}
	t := tables[key]
	if t == nil {
		t = newPathTable()
		tables[key] = t
	}
	return t
}

func (r *router) tables() []*pathTable {
	all := []*pathTable{r.any}
	for _, t := range r.exact {
		all = append(all, t)
	}
	for _, t := range r.wildcard {
		all = append(all, t)
	}
	return all
}

func newPathTable() *pathTable {
	return &pathTable{exact: map[string][]candidate{}, prefixes: &prefixNode{}}
}

func (t *pathTable) add(m *config.Match, c candidate) {
	switch {
	case m.GRPC != nil && m.GRPC.Method != "":
		t.exact[m.GRPC.Path()] = append(t.exact[m.GRPC.Path()], c)
	case m.GRPC != nil:
		n := t.prefixes.node(m.GRPC.Path())
		n.candidates = append(n.candidates, c)
	case m.Path != "":
		path := configuredPath(m.Path)
		t.exact[path] = append(t.exact[path], c)
	case m.PathPrefix != "":
		n := t.prefixes.node(configuredPath(m.PathPrefix))
		n.candidates = append(n.candidates, c)
	case m.PathRegex != nil:
		t.regexes = append(t.regexes, regexCandidate{re: m.PathRegex, candidate: c})
	default:
		t.rest = append(t.rest, c)
	}
}

// configuredPath brings a path of the configuration into the form in which requests are compared.
// Unlike a target it may hold spaces and question marks as they are; a path that is no valid
// target otherwise (a bare percent sign, say) is taken literally.
func configuredPath(path string) string {
	if path[0] != '/' {
		return path
	}
	if p, ok := rewritePath(nil, []byte(path)); ok {
		return string(p)
	}
	return path
}

// node returns the node of prefix, made when it is new. Slashes at the end do not count.
func (n *prefixNode) node(prefix string) *prefixNode {
	for segment := range strings.SplitSeq(strings.Trim(prefix, "/"), "/") {
		if segment == "" {
			continue
		}
		child := n.children[segment]
		if child == nil {
			child = &prefixNode{parent: n}
			if n.children == nil {
				n.children = map[string]*prefixNode{}
			}
			n.children[segment] = child
		}
		n = child
	}
	return n
}

func (t *pathTable) sort() {
	for _, cs := range t.exact {
		sortCandidates(cs)
	}
	t.prefixes.sort()
	sortCandidates(t.rest)
}

func (n *prefixNode) sort() {
	sortCandidates(n.candidates)
	for _, child := range n.children {
		child.sort()
	}
}

func sortCandidates(cs []candidate) {
	slices.SortStableFunc(cs, func(a, b candidate) int {
		return cmp.Or(cmp.Compare(b.conditions(), a.conditions()), cmp.Compare(a.index, b.index))
	})
}

// conditions counts what the route demands beyond host and path: its set of methods is one
// condition, each header another.
func (c *candidate) conditions() int {
	n := len(c.headers)
	if len(c.methods) > 0 {
		n++
	}
	return n
}

// match returns the index of the route for a request, -1 when none matches.
//
// host is the Host field or the authority of an absolute-form target, with or without port;
// path is what normalisePath returned. header returns the value of a field and nil when the
// request has none; it is asked for what demands adds, too. Nothing is kept after the return, nothing is allocated (a regular expression
// may, in the regexp package).
func (r *router) match(host, path, method []byte, header func(name string) []byte) int {
	index, _ := r.find(host, path, method, header)
	return index
}

// find is match, and also counts what it cost: look-ups in tables, regular expressions run and
// candidates checked.
func (r *router) find(host, path, method []byte, header func(name string) []byte) (index, cost int) {
	q := routeQuery{method: method, header: header}
	return r.search(host, path, &q), q.cost
}

// search returns the first route that holds for q, -1 where none does.
func (r *router) search(host, path []byte, q *routeQuery) int {
	if len(r.exact)+len(r.wildcard) > 0 {
		var buf [maxHostName]byte
		if h, ok := canonicalHost(buf[:0], host); ok {
			if i := r.findByHost(h, path, q); i >= 0 {
				return i
			}
		}
	}
	return r.any.find(path, q)
}

// routeQuery is what the conditions beyond host and path look at. The path is not part of it: the
// regexp package lets its input escape, and with it everything in one struct, the caller's closure
// included.
type routeQuery struct {
	method []byte
	header func(name string) []byte
	cost   int
	// may is nil, or what a candidate is asked that holds as far as it can be known before the body is looked into, so
	// that a model counts as the one that is demanded; certain: none is. It says whether the search ends there.
	may func(index int, certain bool) bool

	name  string // the header asked for last: of routes in a row, most ask for the same
	value []byte
}

func (q *routeQuery) headerValue(name string) []byte {
	if name != q.name {
		q.name, q.value = name, q.header(name)
	}
	return q.value
}

func (r *router) findByHost(host, path []byte, q *routeQuery) int {
	q.cost++
	if t := r.exact[string(host)]; t != nil {
		if i := t.find(path, q); i >= 0 {
			return i
		}
	}
	if len(r.wildcard) == 0 {
		return -1
	}
	for at := 1; at < len(host); at++ {
		if host[at] != '.' {
			continue
		}
		q.cost++
		if t := r.wildcard[string(host[at:])]; t != nil {
			if i := t.find(path, q); i >= 0 {
				return i
			}
		}
	}
	return -1
}

func (t *pathTable) find(path []byte, q *routeQuery) int {
	if len(t.exact) > 0 {
		q.cost++
		if i := q.first(t.exact[string(path)]); i >= 0 {
			return i
		}
	}
	for n := t.deepest(path, q); n != nil; n = n.parent {
		if i := q.first(n.candidates); i >= 0 {
			return i
		}
	}
	for i := range t.regexes {
		q.cost++
		if t.regexes[i].re.Match(path) && q.holds(&t.regexes[i].candidate) {
			return t.regexes[i].index
		}
	}
	return q.first(t.rest)
}

// deepest walks down the tree of prefixes as far as the segments of the path lead.
func (t *pathTable) deepest(path []byte, q *routeQuery) *prefixNode {
	n, rest := t.prefixes, path
	for len(n.children) > 0 && len(rest) > 0 && rest[0] == '/' {
		segment := rest[1:]
		if end := bytes.IndexByte(segment, '/'); end >= 0 {
			segment = segment[:end]
		}
		q.cost++
		child := n.children[string(segment)]
		if child == nil {
			break
		}
		n, rest = child, rest[1+len(segment):]
	}
	return n
}

// first returns the index of the first candidate that holds, -1 for none.
func (q *routeQuery) first(cs []candidate) int {
	for i := range cs {
		q.cost++
		if q.holds(&cs[i]) {
			return cs[i].index
		}
	}
	return -1
}

func (q *routeQuery) holds(c *candidate) bool {
	if len(c.methods) > 0 && !slices.ContainsFunc(c.methods, func(m string) bool { return m == string(q.method) }) {
		return false
	}
	certain := true
	for i := range c.headers {
		name := c.headers[i].Name
		if q.may != nil && (name == demandModel || name == demandVersion) {
			certain = false
			continue
		}
		v := q.headerValue(name)
		if v == nil || string(v) != c.headers[i].Value {
			return false
		}
	}
	return q.may == nil || q.may(c.index, certain)
}
