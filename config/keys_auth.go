package config

import (
	"fmt"
	"net/netip"
	"net/url"
	"strings"
	"time"
)

// accessShape is a list of networks that may be absent.
func accessShape() shape[[]netip.Prefix] {
	s := networksShape().(list[netip.Prefix])
	s.least, s.optional = 1, true
	return s
}

func authShape() shape[*Auth] {
	return optional[Auth]{fresh: func() (a Auth) { return a }, inner: object[Auth]{fields: []field[Auth]{
		key("basic", optional[BasicAuth]{fresh: DefaultBasicAuth, inner: object[BasicAuth]{fields: []field[BasicAuth]{
			key("file", pathShape(), func(b *BasicAuth) *string { return &b.File },
				"The path of an htpasswd file with bcrypt hashes, as htpasswd -B writes it. It is read again when it changes.").must(),
			key("realm", optionalTextShape("a text"), func(b *BasicAuth) *string { return &b.Realm },
				"What a browser shows when it asks."),
		}}}, func(a *Auth) **BasicAuth { return &a.Basic },
			"A name and a password (RFC 7617). Absent: they are not taken."),
		key("api_key", optional[APIKeyAuth]{fresh: DefaultAPIKeyAuth, inner: object[APIKeyAuth]{fields: []field[APIKeyAuth]{
			key("header", headerNameShape(), func(k *APIKeyAuth) *string { return &k.Header },
				"The header that has the key."),
			key("file", pathShape(), func(k *APIKeyAuth) *string { return &k.File },
				"The path of a file with a line a key: NAME:KEY, or NAME:sha256:HEX for the hash of one. It is read again when it changes.").must(),
		}}}, func(a *Auth) **APIKeyAuth { return &a.APIKey },
			"A key in a header. Absent: it is not taken."),
		key("jwt", jwtShape(), func(a *Auth) **JWTAuth { return &a.JWT },
			"A signed token (RFC 7519) in Authorization: Bearer. Absent: it is not taken."),
	}}}
}

// jwtAlgorithms are those whose key in the file is public. One that also signs (HS256), or none, would let everybody
// make tokens who may read it.
func jwtAlgorithms() []string {
	return []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"}
}

func jwtShape() shape[*JWTAuth] {
	return optional[JWTAuth]{fresh: DefaultJWTAuth, inner: object[JWTAuth]{fields: []field[JWTAuth]{
		key("jwks", scalar[string]{want: "the path of a file, or a URL", free: true, optional: true, parse: parseJWKS, format: verbatim, body: func() schema { return schema{"type": "string", "minLength": 1} }},
			func(j *JWTAuth) *string { return &j.JWKS },
			"The public keys (RFC 7517): the path of a file, relative to the directory of this file, or an http or https URL.").must(),
		key("refresh", durationShape(), func(j *JWTAuth) *time.Duration { return &j.Refresh },
			"From one look at them to the next."),
		key("issuer", optionalTextShape("a text"), func(j *JWTAuth) *string { return &j.Issuer },
			"What the claim iss must be.").must(),
		key("audience", optionalTextShape("a text"), func(j *JWTAuth) *string { return &j.Audience },
			"What the claim aud must be or hold.").must(),
		key("algorithms", list[string]{
			noun: "algorithm", least: 1, most: len(jwtAlgorithms()), fresh: func() string { return "" }, elem: algorithmShape(),
		}, func(j *JWTAuth) *[]string { return &j.Algorithms },
			"How a token may be signed: RS, PS or ES with 256, 384 or 512, and EdDSA."),
		key("leeway", pauseShape(time.Hour), func(j *JWTAuth) *time.Duration { return &j.Leeway },
			"How far clocks may be apart."),
		key("claims", named[Header]{
			noun: "claim", fresh: func() (h Header) { return h }, name: func(h *Header) *string { return &h.Name },
			check: checkClaim, elem: part(scalar[string]{
				want: "the value of the claim", free: true, parse: parseText, format: verbatim, body: textSchema,
			}, func(h *Header) *string { return &h.Value }),
		}, func(j *JWTAuth) *[]Header { return &j.Claims },
			"Claims that a token must have with this value, or with it in their list."),
	}}}
}

func algorithmShape() shape[string] {
	s := choiceShape("algorithm", jwtAlgorithms()).(scalar[string])
	known := s.parse
	s.parse = func(text string) (string, error) {
		if strings.HasPrefix(text, "HS") || strings.EqualFold(text, "none") {
			return "", fmt.Errorf("%s is not safe here: whoever can check such a token can make one; want %s", clip(text), choices(jwtAlgorithms(), "or"))
		}
		return known(text)
	}
	return s
}

func checkClaim(s string) error {
	if s == "" || len(s) > 256 || strings.ContainsFunc(s, control) {
		return fmt.Errorf("%q is no name of a claim; write one such as role", clip(s))
	}
	return nil
}

func parseJWKS(s string) (string, error) {
	if strings.Contains(s, "://") {
		u, err := url.Parse(s)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil || strings.ContainsFunc(s, control) {
			return "", fmt.Errorf("%q is no URL of keys; write one with http:// or https:// and a host, without a password, or the path of a file", clip(s))
		}
		return s, nil
	}
	return pathShape().(scalar[string]).parse(s)
}

func corsShape() shape[*CORS] {
	names := func(noun string) shape[[]string] {
		return list[string]{noun: noun, most: 64, fresh: func() string { return "" }, elem: scalar[string]{
			want: "the name of a " + noun, free: true, format: verbatim, body: textSchema,
			parse: func(s string) (string, error) { return s, checkToken(s, noun) },
		}}
	}
	return optional[CORS]{fresh: DefaultCORS, inner: object[CORS]{fields: []field[CORS]{
		key("origins", list[string]{noun: "origin", least: 1, optional: true, fresh: func() string { return "" }, elem: scalar[string]{
			want: "an origin such as https://app.example.com", free: true, parse: parseOrigin, format: verbatim, body: textSchema,
		}}, func(c *CORS) *[]string { return &c.Origins },
			"The origins whose pages may ask: https://app.example.com, https://*.example.com for every name below example.com, or * for all.").must(),
		key("methods", methodsShape(), func(c *CORS) *[]string { return &c.Methods },
			"The methods that they may use."),
		key("headers", names("header"), func(c *CORS) *[]string { return &c.Headers },
			"The header fields that they may send; * for all."),
		key("expose", names("header"), func(c *CORS) *[]string { return &c.Expose },
			"The header fields of answers that they may read, beside the usual ones."),
		key("credentials", boolShape(), func(c *CORS) *bool { return &c.Credentials },
			"Whether they may send cookies and passwords; not with origins *."),
		key("max_age", pauseShape(0), func(c *CORS) *time.Duration { return &c.MaxAge },
			"How long a browser remembers what it was told."),
	}}}
}

// parseOrigin reads an origin as browsers send it.
func parseOrigin(s string) (string, error) {
	if s == "*" {
		return s, nil
	}
	scheme, rest, ok := strings.Cut(s, "://")
	host := strings.TrimPrefix(rest, "*.")
	u, err := url.Parse(scheme + "://" + host)
	if !ok || err != nil || u.Host != host || u.Hostname() == "" || scheme != "http" && scheme != "https" || strings.ContainsAny(host, "*,@") ||
		strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return "", fmt.Errorf("%q is no origin; write scheme and host without a slash at the end, as in https://app.example.com or https://*.example.com", clip(s))
	}
	if lower := strings.ToLower(s); lower != s {
		return "", fmt.Errorf("%q is not lower case, as browsers write it; write %s", clip(s), clip(lower))
	}
	return s, nil
}
