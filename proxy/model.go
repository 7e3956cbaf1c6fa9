package proxy

import (
	"bytes"
	"strings"

	"github.com/tidwall/gjson"

	"weir/config"
	"weir/proxy/auth"
	"weir/proxy/grpc"
)

// Conditions of a match that are no field of the head. To the router they are fields like others, with names that no
// field can have.
const (
	demandCall    = ":call"
	demandModel   = ":model"
	demandVersion = ":model-version"
)

// demands are the fields that a match demands, and what else it does.
func demands(m *config.Match) []config.Header {
	all := m.Headers[:len(m.Headers):len(m.Headers)]
	if m.GRPC != nil {
		all = append(all, config.Header{Name: demandCall, Value: "grpc"})
	}
	if m.Model != "" {
		all = append(all, config.Header{Name: demandModel, Value: m.Model})
	}
	if m.ModelVersion != "" {
		all = append(all, config.Header{Name: demandVersion, Value: m.ModelVersion})
	}
	return all
}

// condition is what the router is told of a field, or of another condition; nil: there is none.
func (r *request) condition(name string) []byte {
	if name[0] != ':' {
		return lookup(r.raw, name)
	}
	switch name {
	case demandCall:
		if r.isCall() {
			return []byte("grpc")
		}
	case demandModel:
		return r.modelSaid().name
	case demandVersion:
		return r.modelSaid().version
	}
	return nil
}

// model is the one that a request is for, as far as it says so.
type model struct {
	name, version []byte
	sought        bool
	inBody        bool // it may be said there, which nobody has looked into yet
}

// modelSaid looks for the model where that has not been done.
func (r *request) modelSaid() *model {
	m := &r.model
	if m.sought {
		return m
	}
	m.sought = true
	if m.name, m.version = modelInPath(r.path); m.name != nil {
		return m
	}
	if r.isCall() {
		m.name, m.version = lookup(r.raw, "model-name"), lookup(r.raw, "model-version")
		m.inBody = m.name == nil && grpc.NamesModel(r.path)
	} else {
		m.inBody = methods[r.method] == "POST" && openAI(r.path) && isJSON(lookup(r.raw, "content-type"))
	}
	return m
}

// modelInPath reads a path of the Open Inference Protocol V2: /v2/models/NAME[/versions/VERSION][/…].
func modelInPath(path []byte) (name, version []byte) {
	rest, ok := bytes.CutPrefix(path, []byte("/v2/models/"))
	if !ok {
		return nil, nil
	}
	name, rest, _ = bytes.Cut(rest, []byte("/"))
	if len(name) == 0 {
		return nil, nil
	}
	if rest, ok = bytes.CutPrefix(rest, []byte("versions/")); ok {
		if version, _, _ = bytes.Cut(rest, []byte("/")); len(version) == 0 {
			version = nil
		}
	}
	return name, version
}

// openAI reports whether path is one of OpenAI's API, at the root or where KServe has it.
func openAI(path []byte) bool {
	return bytes.HasPrefix(path, []byte("/v1/")) || bytes.HasPrefix(path, []byte("/openai/v1/"))
}

func isJSON(kind []byte) bool {
	kind, _, _ = bytes.Cut(kind, []byte(";"))
	return equalFold(bytes.TrimSpace(kind), "application/json")
}

// find finds the route, if need be by what the body says, which nobody has looked into. Who is barred from every route
// that may be meant is refused as by the first of them.
func (r *request) find(host []byte) (i int, barred bool, k kind) {
	if i = r.table.find(r, host, r.path); !r.model.inBody {
		return i, false, success
	}
	if i = r.barred(host); i >= 0 {
		return i, true, success
	}
	if k = r.readModel(); k != success {
		return -1, false, k
	}
	return r.table.find(r, host, r.path), false, success
}

// barred is the first of the routes that the request may be for, where all of them, whatever its model, keep it out by
// its address or its credentials; else -1. Of who is sure to be refused no body is read.
func (r *request) barred(host []byte) int {
	first, welcome := -1, false
	q := routeQuery{method: r.head.Method(), header: r.lookup, may: func(index int, certain bool) bool {
		if welcome = r.welcome(r.table.routes[index].gate); first < 0 {
			first = index
		}
		return welcome || certain
	}}
	if r.table.router.search(host, r.path, &q); welcome {
		return -1
	}
	return first
}

// welcome reports whether g may let the request in, or answers it.
func (r *request) welcome(g *gate) bool {
	switch {
	case g == nil, g.redirect != nil && g.redirect.https && !r.secure():
		return true
	case g.networks != nil && !g.networks.admit(r.client):
		return false
	case g.guard == nil:
		return true
	}
	verdict, ended := g.guard.judge(r)
	r.who, r.keyName, r.claims, r.challenge = "", "", nil, nil // it may be another route's yet
	return ended != success || verdict != auth.Missing && verdict != auth.Rejected && verdict != auth.Expired
}

// readModel looks into the body, before the route is known and so before anything of the route holds.
func (r *request) readModel() kind {
	m := &r.model
	m.inBody = false
	var call grpc.ModelReader
	return r.lookAhead(func(body []byte, all bool) (enough bool) {
		if !r.isCall() {
			if !all {
				return false
			}
			if f := gjson.GetBytes(body, "model"); f.Type == gjson.String && strings.HasSuffix(f.Raw, `"`) { // it may be cut
				m.name = []byte(f.Str)
			}
			return true
		}
		name, version, more := call.Read(body)
		if more && !all {
			return false
		}
		m.name, m.version = bytes.Clone(name), bytes.Clone(version)
		return true
	})
}
