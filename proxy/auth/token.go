package auth

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// Policy says which tokens are accepted.
type Policy struct {
	Issuer, Audience string // "": any
	Algorithms       []string
	Leeway           time.Duration
	Claims           []Claim // that a token must have
}

// Claim is a claim and its value.
type Claim struct{ Name, Value string }

// Verdict is what became of credentials.
type Verdict uint8

// The verdicts.
const (
	Accepted Verdict = iota
	Missing          // there were none
	Rejected
	Expired // a token was right once
	Busy    // too many wait to be looked at
	NoKeys  // a token cannot be told: there is no key set yet
	Verdicts
)

var verdicts = [Verdicts]string{"accepted", "missing", "rejected", "expired", "busy", "no_keys"}

func (v Verdict) String() string { return verdicts[v] }

// Tokens verifies JSON Web Tokens (RFC 7519) by the keys of a source.
type Tokens struct {
	policy Policy
	source KeySource
	parser *jwt.Parser
	now    func() time.Time
	known  atomic.Pointer[verifiedBy]
}

// verifiedBy are tokens that a set of keys has verified: with another set they are looked at anew.
type verifiedBy struct {
	set    *KeySet
	recent *recent[verified]
}

type verified struct {
	claims *Claims
	until  time.Time
}

const (
	maxToken = 8 << 10
	maxIDs   = 256  // bytes of a key id
	maxKnown = 4096 // tokens
)

// NewTokens returns the verifier of a policy, which must name algorithms that there are.
func NewTokens(p Policy, source KeySource) (*Tokens, error) { return newTokens(p, source, time.Now) }

func newTokens(p Policy, source KeySource, now func() time.Time) (*Tokens, error) {
	if len(p.Algorithms) == 0 {
		return nil, errors.New("no algorithm is named")
	}
	for _, a := range p.Algorithms {
		if families[a] == "" {
			return nil, fmt.Errorf("algorithm %.16q: of RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, ES512 and EdDSA", a)
		}
	}
	options := []jwt.ParserOption{
		jwt.WithValidMethods(p.Algorithms), jwt.WithLeeway(p.Leeway), jwt.WithExpirationRequired(), jwt.WithTimeFunc(now),
		jwt.WithJSONNumber(), jwt.WithStrictDecoding(),
	}
	if p.Issuer != "" {
		options = append(options, jwt.WithIssuer(p.Issuer))
	}
	if p.Audience != "" {
		options = append(options, jwt.WithAudience(p.Audience))
	}
	return &Tokens{policy: p, source: source, parser: jwt.NewParser(options...), now: now}, nil
}

var (
	errNoKeys     = errors.New("there is no key set yet")
	errUnknownKey = errors.New("the key is not known")
	errExtension  = errors.New("the token has extensions that must be understood")
	errKind       = errors.New("the token is of another kind")
)

// Verify says what a token is worth, and what it says where it is accepted.
func (t *Tokens) Verify(token []byte) (*Claims, Verdict) {
	if len(token) > maxToken {
		return nil, Rejected
	}
	sum := sha256.Sum256(token)
	set := t.source.Current()
	known := t.known.Load()
	if known == nil || known.set != set {
		known = &verifiedBy{set, newRecent[verified](maxKnown)}
		t.known.Store(known)
	}
	if v, ok := known.recent.Get(sum); ok {
		if t.now().Before(v.until) {
			return v.claims, Accepted
		}
		known.recent.Remove(sum)
		return nil, Expired
	}
	decoded := jwt.MapClaims{}
	_, err := t.parser.ParseWithClaims(string(token), decoded, func(token *jwt.Token) (any, error) { return keysFor(token, set) })
	switch {
	case errors.Is(err, errNoKeys):
		t.source.Miss()
		return nil, NoKeys
	case errors.Is(err, errUnknownKey):
		t.source.Miss()
		return nil, Rejected
	case errors.Is(err, jwt.ErrTokenExpired):
		return nil, Expired
	case err != nil:
		return nil, Rejected
	}
	claims := newClaims(decoded)
	for _, c := range t.policy.Claims {
		if !claims.Has(c.Name, c.Value) {
			return nil, Rejected
		}
	}
	if expires, err := decoded.GetExpirationTime(); err == nil && expires != nil {
		known.recent.Add(sum, verified{claims, expires.Add(t.policy.Leeway)})
	}
	return claims, Accepted
}

// keysFor are the keys by which a token is verified, whose algorithm is one that the policy names.
func keysFor(token *jwt.Token, set *KeySet) (any, error) {
	if _, has := token.Header["crit"]; has { // none is understood (RFC 7515, 4.1.11)
		return nil, errExtension
	}
	if kind, has := token.Header["typ"]; has && !isAccess(kind) {
		return nil, errKind
	}
	id := ""
	if v, has := token.Header["kid"]; has {
		text, ok := v.(string)
		if !ok || len(text) > maxIDs {
			return nil, errKind
		}
		id = text
	}
	if set == nil {
		return nil, errNoKeys
	}
	keys, named := set.fitting(token.Method.Alg(), id)
	if !named {
		return nil, errUnknownKey
	}
	var all jwt.VerificationKeySet
	for _, k := range keys {
		all.Keys = append(all.Keys, k)
	}
	return all, nil
}

// isAccess reports whether a token's type is one that stands for its bearer: others are signed by the same keys
// for other ends (RFC 8725, 3.11).
func isAccess(kind any) bool {
	text, _ := kind.(string)
	text = strings.TrimPrefix(strings.ToLower(text), "application/")
	return text == "jwt" || text == "at+jwt"
}
