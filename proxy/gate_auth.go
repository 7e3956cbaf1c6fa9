package proxy

import (
	"bytes"
	"fmt"
	"strings"
	"sync/atomic"

	"weir/config"
	"weir/proxy/auth"
)

// guard asks who a request is from. One of the ways that it knows is enough.
type guard struct {
	users  *auth.File[auth.Users] // nil: passwords are not asked for; so are the others
	keys   *auth.File[auth.Keys]
	header string // of the key
	tokens *auth.Tokens

	sources  []sourceKey
	verdicts *[auth.Verdicts]atomic.Uint64 // outlives tables
	// What a client that was refused is told to bring.
	challenge, invalid, expired []byte
}

// guarded is the guard of a gate; nil where there is none of either.
func (g *gate) guarded() *guard {
	if g == nil {
		return nil
	}
	return g.guard
}

// newGuard returns the guard of a route of t, nil where everybody may ask.
func (t *table) newGuard(c config.Route, old *table) (g *guard, err error) {
	if c.Auth == nil {
		return nil, nil
	}
	g = &guard{verdicts: new([auth.Verdicts]atomic.Uint64)}
	if prev := old.route(c.Name); prev != nil && prev.gate.guarded() != nil {
		g.verdicts = prev.gate.guard.verdicts
	}
	fail := func(key string, err error) (*guard, error) {
		return nil, fmt.Errorf("routes.%s.auth.%s: %w", c.Name, key, err)
	}
	if b := c.Auth.Basic; b != nil {
		key := g.names(sourceKey{kind: "basic", place: b.File})
		if g.users, err = obtain(t, old, key, func() (*auth.File[auth.Users], error) { return auth.Open(b.File, auth.ParseUsers) }); err != nil {
			return fail("basic.file", err)
		}
		g.challenges(`Basic realm="`+quotable.Replace(b.Realm)+`", charset="UTF-8"`, "")
	}
	if k := c.Auth.APIKey; k != nil {
		key := g.names(sourceKey{kind: "api_key", place: k.File})
		if g.keys, err = obtain(t, old, key, func() (*auth.File[auth.Keys], error) { return auth.Open(k.File, auth.ParseKeys) }); err != nil {
			return fail("api_key.file", err)
		}
		g.header = k.Header
		g.challenges(`ApiKey header="`+quotable.Replace(k.Header)+`"`, "")
	}
	if j := c.Auth.JWT; j != nil {
		key := g.names(sourceKey{kind: "jwt", place: j.JWKS, refresh: j.Refresh})
		source, err := obtain(t, old, key, func() (auth.KeySource, error) { return auth.OpenKeys(j.JWKS, j.Refresh) })
		if err != nil {
			return fail("jwt.jwks", err)
		}
		if g.tokens, err = auth.NewTokens(tokenPolicy(j), source); err != nil {
			return fail("jwt.algorithms", err)
		}
		g.challenges("Bearer", `error="invalid_token"`)
	}
	return g, nil
}

var quotable = strings.NewReplacer(`\`, `\\`, `"`, `\"`)

func (g *guard) names(key sourceKey) sourceKey {
	g.sources = append(g.sources, key)
	return key
}

func tokenPolicy(c *config.JWTAuth) auth.Policy {
	p := auth.Policy{Issuer: c.Issuer, Audience: c.Audience, Algorithms: c.Algorithms, Leeway: c.Leeway}
	for _, claim := range c.Claims {
		p.Claims = append(p.Claims, auth.Claim(claim))
	}
	return p
}

// challenges adds a scheme to what a client is told, and what went wrong with it (RFC 9110, 11.6.1; RFC 6750, 3).
func (g *guard) challenges(scheme, wrong string) {
	g.challenge = appendField(g.challenge, "WWW-Authenticate: ", []byte(scheme))
	why := ""
	if wrong != "" {
		scheme, why = scheme+" "+wrong, `, error_description="the token has expired"`
	}
	g.invalid = appendField(g.invalid, "WWW-Authenticate: ", []byte(scheme))
	g.expired = appendField(g.expired, "WWW-Authenticate: ", []byte(scheme+why))
}

// admit finds out who asks, or refuses the request.
func (g *guard) admit(r *request) kind {
	verdict, ended := g.judge(r)
	if ended != success {
		return ended
	}
	g.verdicts[verdict].Add(1)
	switch verdict {
	case auth.Accepted:
		return success
	case auth.Busy:
		return authBusy
	case auth.NoKeys:
		return authUnready
	}
	return unauthorized
}

// judge tries the credentials that the request has. ended is why it ended while they were looked at.
func (g *guard) judge(r *request) (verdict auth.Verdict, ended kind) {
	verdict, r.challenge = auth.Missing, g.challenge
	if g.keys != nil {
		if key := lookup(r.raw, g.header); len(key) > 0 {
			verdict = auth.Rejected
			if name, ok := g.keys.Current().Find(key); ok && r.once(g.header) {
				r.who, r.keyName = name, name
				return auth.Accepted, success
			}
		}
	}
	scheme, credentials, _ := bytes.Cut(lookup(r.raw, "authorization"), []byte(" "))
	credentials = bytes.TrimLeft(credentials, " ")
	switch {
	case g.tokens != nil && equalFold(scheme, "bearer"):
		return g.token(r, credentials), success
	case g.users != nil && equalFold(scheme, "basic"):
		return g.password(r, credentials)
	}
	return verdict, success
}

// once reports whether the request has one field of that name alone: an endpoint might believe another than weir.
func (r *request) once(name string) bool { return occurrences(r.raw, []byte(name)) == 1 }

func (g *guard) token(r *request, token []byte) auth.Verdict {
	verdict := auth.Rejected
	if r.once("authorization") {
		var claims *auth.Claims
		if claims, verdict = g.tokens.Verify(token); verdict == auth.Accepted {
			r.who, r.claims = claims.Subject, claims
		}
	}
	if r.challenge = g.invalid; verdict == auth.Expired {
		r.challenge = g.expired
	}
	return verdict
}

func (g *guard) password(r *request, credentials []byte) (verdict auth.Verdict, ended kind) {
	name, password, ok := auth.Basic(credentials)
	if !ok || !r.once("authorization") {
		return auth.Rejected, success
	}
	users := g.users.Current()
	if who, ok := users.Recall(name, password); ok {
		r.who = who
		return auth.Accepted, success
	}
	look := &look{strand: r.c.strand}
	run := func() {
		if look.left.Load() {
			return
		}
		look.who, look.ok = users.Verify(name, password)
		look.done.Store(true)
		look.strand.unpark()
	}
	if !r.p.checks.Do(r.client, run) {
		return auth.Busy, success
	}
	if ended = look.await(r); ended != success {
		return auth.Rejected, ended
	}
	if !look.ok {
		return auth.Rejected, success
	}
	r.who = look.who
	return auth.Accepted, success
}

// look is a look at a password, which takes a processor for so long that it must not be a loop's.
type look struct {
	strand     strand
	left, done atomic.Bool
	who        string // when done
	ok         bool
}

// await waits for the look to end. It returns success, or why the request has ended meanwhile.
func (l *look) await(r *request) kind {
	c := r.c
	c.enter(phaseAwait)
	for !l.done.Load() {
		if c.interruptedBy() != reasonNone {
			l.left.Store(true)
			return r.endpointFailed(false)
		}
		c.strand.park(pauseStep)
	}
	c.enter(phaseBusy)
	return success
}

// claim is a claim of the token that the request was let in with, as text; nil where there is none.
func (r *request) claim(name string) []byte { return r.claims.Text(name) }

// passwordsWaiting is how many looks at passwords wait at most: the last of them for some seconds.
const passwordsWaiting = 64
