package proxy

import "weir/config"

// gate is what a route asks of a request, and answers by itself, before anything else.
type gate struct {
	// Nil where the route has no such thing.
	networks *networks
	cors     *cors
	guard    *guard
	redirect *redirect
	fixed    *fixed
}

// newGate returns the gate of a route of t, nil where everybody may pass. What its guard checks against it has
// in common with old's, where that is the same.
func (t *table) newGate(c config.Route, old *table) (*gate, error) {
	g := &gate{
		networks: newNetworks(c.Allow, c.Deny), cors: newCORS(c.CORS),
		redirect: newRedirect(c.Redirect), fixed: newFixed(c.Respond),
	}
	var err error
	if g.guard, err = t.newGuard(c, old); err != nil {
		return nil, err
	}
	t.cors = t.cors || g.cors != nil
	if *g == (gate{}) {
		return nil, nil
	}
	return g, nil
}

// meet lets the request in (success), refuses it, or has answered it (r.sent). Who came by http where https is
// asked for learns nothing else, and no credentials are looked at. A preflight comes before the credentials,
// which browsers do not send with it.
func (g *gate) meet(r *request) kind {
	if g.redirect != nil && g.redirect.https && !r.secure() {
		return g.redirect.answer(r)
	}
	if g.networks != nil && !g.networks.admit(r.client) {
		return forbidden
	}
	if g.cors != nil && g.cors.preflight(r) {
		return success
	}
	if g.guard != nil {
		if k := g.guard.admit(r); k != success {
			return k
		}
	}
	switch {
	case g.redirect != nil && !g.redirect.https:
		return g.redirect.answer(r)
	case g.fixed != nil:
		r.answer(g.fixed.status, g.fixed.lines, g.fixed.body)
	}
	if !r.sent && len(r.route.variants) == 0 {
		return noRoute // what came by https already leads nowhere else
	}
	return success
}

// secure reports whether the request came by https. Of what a trusted proxy passes on, that one says it.
func (r *request) secure() bool {
	if p := r.fields.proto.in(r.raw); len(p) > 0 && r.table.trusts(r.c.peer) {
		return equalFold(p, "https")
	}
	return r.c.secure
}
