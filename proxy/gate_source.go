package proxy

import (
	"slices"
	"time"

	"go.uber.org/zap"

	"weir/internal/certificate/acme"
	"weir/proxy/auth"
)

// source is what gates check credentials against: a file or an address that is followed while a table that names
// it is in force.
type source interface {
	Name() string
	// Fresh reports whether the latest content is in force.
	Fresh() bool
	Start(log *zap.Logger)
	Stop()
}

// sourceKey tells sources apart.
type sourceKey struct {
	kind, place string
	refresh     time.Duration
}

// obtain returns a source of t, which is old's where that has it, and is opened where neither has.
func obtain[S source](t, old *table, key sourceKey, open func() (S, error)) (s S, err error) {
	for _, known := range []*table{t, old} {
		if s, ok := known.sources[key].(S); ok {
			t.addSource(key, s)
			return s, nil
		}
	}
	if s, err = open(); err != nil {
		return s, err
	}
	t.addSource(key, s)
	return s, nil
}

func (t *table) addSource(key sourceKey, s source) {
	if t.sources == nil {
		t.sources = map[sourceKey]source{}
	}
	t.sources[key] = s
	if a, ok := s.(*acme.Account); ok && !slices.Contains(t.accounts, a) {
		t.accounts = append(t.accounts, a)
	}
}

// keepGate has t know of the gate of a route that it takes over from old.
func (t *table) keepGate(r *route, old *table) {
	if r.gate == nil {
		return
	}
	t.cors = t.cors || r.gate.cors != nil
	if g := r.gate.guard; g != nil {
		for _, key := range g.sources {
			t.addSource(key, old.sources[key])
		}
	}
}

// followSources has those of next followed that old has not, and no more those that only old has.
func (p *Proxy) followSources(old, next *table) {
	for key, s := range next.sources {
		if old.sources[key] != s {
			p.tellOf(s)
			s.Start(p.log)
		}
	}
	for key, s := range old.sources {
		if next.sources[key] != s {
			s.Stop()
		}
	}
}

// sourceStates says of each source of t, by its name, whether its latest content is in force.
func (t *table) sourceStates() map[string]bool {
	states := map[string]bool{}
	for _, s := range t.sources {
		if _, ok := s.(reasoner); ok {
			continue
		}
		before, known := states[s.Name()] // it may be of two kinds
		states[s.Name()] = s.Fresh() && (before || !known)
	}
	return states
}

// reasoner is a source that says itself what is wrong with it; "": nothing.
type reasoner interface{ Reason() string }

// reasons are those of the sources of t that have one, in order.
func (t *table) reasons() (all []string) {
	for _, s := range t.sources {
		if r, ok := s.(reasoner); ok {
			if why := r.Reason(); why != "" {
				all = append(all, why)
			}
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

var (
	_ source = (*auth.File[auth.Users])(nil)
	_ source = auth.KeySource(nil)
	_ source = (*acme.Account)(nil)
	_ source = (*acme.Domain)(nil)
)
