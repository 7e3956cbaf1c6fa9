package auth

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"go.uber.org/zap"
)

// keyring are private keys of each family, made for the tests.
type keyring struct {
	rsa, otherRSA *rsa.PrivateKey
	p256, p384    *ecdsa.PrivateKey
	ed            ed25519.PrivateKey
}

func newKeyring(t testing.TB) *keyring {
	t.Helper()
	r1, err1 := rsa.GenerateKey(rand.Reader, 2048)
	r2, err2 := rsa.GenerateKey(rand.Reader, 2048)
	e1, err3 := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	e2, err4 := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	_, ed, err5 := ed25519.GenerateKey(rand.Reader)
	for _, err := range []error{err1, err2, err3, err4, err5} {
		if err != nil {
			t.Fatal(err)
		}
	}
	return &keyring{rsa: r1, otherRSA: r2, p256: e1, p384: e2, ed: ed}
}

type jwk map[string]any

func b64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// published is a public key as a key set has it.
func published(t testing.TB, key crypto.PublicKey, id string) jwk {
	t.Helper()
	switch k := key.(type) {
	case *rsa.PublicKey:
		return jwk{"kty": "RSA", "kid": id, "n": b64(k.N.Bytes()), "e": b64(big.NewInt(int64(k.E)).Bytes())}
	case *ecdsa.PublicKey:
		point, err := k.Bytes()
		if err != nil {
			t.Fatal(err)
		}
		half := (len(point) - 1) / 2
		return jwk{"kty": "EC", "kid": id, "crv": k.Params().Name, "x": b64(point[1 : 1+half]), "y": b64(point[1+half:])}
	case ed25519.PublicKey:
		return jwk{"kty": "OKP", "kid": id, "crv": "Ed25519", "x": b64(k)}
	}
	t.Fatalf("%T", key)
	return nil
}

func document(t testing.TB, keys ...jwk) []byte {
	t.Helper()
	b, err := json.Marshal(map[string]any{"keys": keys})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// still is a source that never changes by itself.
type still struct {
	set    *KeySet
	misses int
}

func (s *still) Current() *KeySet    { return s.set }
func (s *still) Miss()               { s.misses++ }
func (*still) Name() string          { return "still" }
func (*still) Fresh() bool           { return true }
func (*still) Start(log *zap.Logger) {}
func (*still) Stop()                 {}

func (k *keyring) source(t testing.TB) *still {
	t.Helper()
	encryption := published(t, &k.otherRSA.PublicKey, "enc")
	encryption["use"] = "enc"
	only := published(t, &k.rsa.PublicKey, "rs256-only")
	only["alg"] = "RS256"
	set, err := ParseKeySet(document(t, published(t, &k.rsa.PublicKey, "rsa"), published(t, &k.p256.PublicKey, "p256"),
		published(t, &k.p384.PublicKey, "p384"), published(t, k.ed.Public(), "ed"), encryption, only, jwk{"kty": "oct", "kid": "secret", "k": "AAAA"}))
	if err != nil {
		t.Fatal(err)
	}
	return &still{set: set}
}

var noon = time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)

func policy() Policy {
	return Policy{
		Issuer: "https://issuer.example.com", Audience: "weir", Leeway: 10 * time.Second,
		Algorithms: []string{"RS256", "PS256", "ES256", "ES384", "EdDSA"},
		Claims:     []Claim{{"tenant", "acme"}, {"roles", "reader"}},
	}
}

func goodClaims() jwt.MapClaims {
	return jwt.MapClaims{
		"iss": "https://issuer.example.com", "aud": []string{"other", "weir"}, "sub": "alice", "exp": noon.Add(time.Minute).Unix(),
		"nbf": noon.Add(-time.Minute).Unix(), "tenant": "acme", "roles": []string{"writer", "reader"}, "level": 7, "admin": false,
	}
}

// sign makes a token; header fields that are nil are left out.
func sign(t testing.TB, alg string, key any, header map[string]any, claims jwt.Claims) string {
	t.Helper()
	token := jwt.NewWithClaims(jwt.GetSigningMethod(alg), claims)
	for name, v := range header {
		if token.Header[name] = v; v == nil {
			delete(token.Header, name)
		}
	}
	s, err := token.SignedString(key)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func with(changes jwt.MapClaims) jwt.MapClaims {
	c := goodClaims()
	for name, v := range changes {
		if c[name] = v; v == nil {
			delete(c, name)
		}
	}
	return c
}

func kid(id string) map[string]any { return map[string]any{"kid": id} }

func TestTokens(t *testing.T) {
	k := newKeyring(t)
	tokens, err := newTokens(policy(), k.source(t), func() time.Time { return noon })
	if err != nil {
		t.Fatal(err)
	}
	good := sign(t, "RS256", k.rsa, kid("rsa"), goodClaims())
	parts := strings.Split(good, ".")
	public, err := x509.MarshalPKIXPublicKey(&k.rsa.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	asPEM := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public})
	raw := func(header, payload, signature string) string {
		return b64([]byte(header)) + "." + b64([]byte(payload)) + "." + signature
	}
	payload := string(must(base64.RawURLEncoding.DecodeString(parts[1])))
	flipped := []byte(must(base64.RawURLEncoding.DecodeString(parts[2])))
	flipped[10] ^= 1
	for _, c := range []struct {
		name, token string
		want        Verdict
	}{
		{"RS256", good, Accepted},
		{"PS256", sign(t, "PS256", k.rsa, kid("rsa"), goodClaims()), Accepted},
		{"ES256", sign(t, "ES256", k.p256, kid("p256"), goodClaims()), Accepted},
		{"ES384", sign(t, "ES384", k.p384, kid("p384"), goodClaims()), Accepted},
		{"EdDSA", sign(t, "EdDSA", k.ed, kid("ed"), goodClaims()), Accepted},
		{"without a key id", sign(t, "RS256", k.rsa, nil, goodClaims()), Accepted},
		{"an access token by type", sign(t, "RS256", k.rsa, map[string]any{"typ": "at+JWT"}, goodClaims()), Accepted},
		{"without a type", sign(t, "RS256", k.rsa, map[string]any{"typ": nil}, goodClaims()), Accepted},
		{"expired within the leeway", sign(t, "RS256", k.rsa, nil, with(jwt.MapClaims{"exp": noon.Add(-5 * time.Second).Unix()})), Accepted},
		{"the audience alone", sign(t, "RS256", k.rsa, nil, with(jwt.MapClaims{"aud": "weir"})), Accepted},

		{"expired", sign(t, "RS256", k.rsa, nil, with(jwt.MapClaims{"exp": noon.Add(-11 * time.Second).Unix()})), Expired},
		{"expired and forged", sign(t, "RS256", k.otherRSA, nil, with(jwt.MapClaims{"exp": noon.Add(-time.Hour).Unix()})), Rejected},
		{"never expires", sign(t, "RS256", k.rsa, nil, with(jwt.MapClaims{"exp": nil})), Rejected},
		{"expiry is a text", sign(t, "RS256", k.rsa, nil, with(jwt.MapClaims{"exp": "9999999999"})), Rejected},
		{"not yet", sign(t, "RS256", k.rsa, nil, with(jwt.MapClaims{"nbf": noon.Add(time.Minute).Unix()})), Rejected},
		{"another issuer", sign(t, "RS256", k.rsa, nil, with(jwt.MapClaims{"iss": "https://issuer.example.com.evil.com"})), Rejected},
		{"no issuer", sign(t, "RS256", k.rsa, nil, with(jwt.MapClaims{"iss": nil})), Rejected},
		{"another audience", sign(t, "RS256", k.rsa, nil, with(jwt.MapClaims{"aud": "weirdo"})), Rejected},
		{"no audience", sign(t, "RS256", k.rsa, nil, with(jwt.MapClaims{"aud": nil})), Rejected},
		{"another tenant", sign(t, "RS256", k.rsa, nil, with(jwt.MapClaims{"tenant": "acme2"})), Rejected},
		{"no tenant", sign(t, "RS256", k.rsa, nil, with(jwt.MapClaims{"tenant": nil})), Rejected},
		{"without the role", sign(t, "RS256", k.rsa, nil, with(jwt.MapClaims{"roles": []string{"writer"}})), Rejected},

		{"an unknown key", sign(t, "RS256", k.otherRSA, kid("nobody"), goodClaims()), Rejected},
		{"another key of that name", sign(t, "RS256", k.otherRSA, kid("rsa"), goodClaims()), Rejected},
		{"a key for encryption", sign(t, "RS256", k.otherRSA, kid("enc"), goodClaims()), Rejected},
		{"a key of another algorithm", sign(t, "PS256", k.rsa, kid("rs256-only"), goodClaims()), Rejected},
		{"a key of another type", sign(t, "RS256", k.rsa, kid("p256"), goodClaims()), Rejected},
		{"an algorithm that is not allowed", sign(t, "RS512", k.rsa, kid("rsa"), goodClaims()), Rejected},
		{"another curve", sign(t, "ES256", k.p256, kid("p384"), goodClaims()), Rejected},
		{"a key id that is a number", sign(t, "RS256", k.rsa, map[string]any{"kid": 5}, goodClaims()), Rejected},
		{"an endless key id", sign(t, "RS256", k.rsa, kid(strings.Repeat("k", 300)), goodClaims()), Rejected},

		{"HS256 with the public key as its secret", sign(t, "HS256", asPEM, kid("rsa"), goodClaims()), Rejected},
		{"HS256 with its modulus", sign(t, "HS256", k.rsa.N.Bytes(), nil, goodClaims()), Rejected},
		{"HS256 with the secret that is in the set", sign(t, "HS256", []byte{0, 0, 0}, kid("secret"), goodClaims()), Rejected},
		{"none", sign(t, "none", jwt.UnsafeAllowNoneSignatureType, nil, goodClaims()), Rejected},
		{"None", raw(`{"alg":"None"}`, payload, ""), Rejected},
		{"no algorithm", raw(`{"typ":"JWT"}`, payload, parts[2]), Rejected},
		{"an algorithm in lower case", raw(`{"alg":"rs256"}`, payload, parts[2]), Rejected},
		{"a key that the token brings", sign(t, "RS256", k.otherRSA, map[string]any{"jwk": published(t, &k.otherRSA.PublicKey, "")}, goodClaims()), Rejected},

		{"another payload", parts[0] + "." + b64([]byte(strings.Replace(payload, "alice", "admin", 1))) + "." + parts[2], Rejected},
		{"another signature", parts[0] + "." + parts[1] + "." + b64(flipped), Rejected},
		{"no signature", parts[0] + "." + parts[1] + ".", Rejected},
		{"a signature with stray bits", good[:len(good)-1] + next(good[len(good)-1]), Rejected},
		{"a part more", good + ".", Rejected},
		{"a part less", parts[0] + "." + parts[1], Rejected},
		{"a blank in it", parts[0] + " ." + parts[1] + "." + parts[2], Rejected},
		{"padding", parts[0] + "=." + parts[1] + "." + parts[2], Rejected},
		{"no JSON", raw(`{"alg"`, payload, parts[2]), Rejected},
		{"a payload that is a list", signRaw(t, k, `["iss"]`), Rejected},
		{"a payload that is null", signRaw(t, k, `null`), Rejected},
		{"a token in it", signRaw(t, k, `"`+good+`"`), Rejected},
		{"a token in it, as its type says", sign(t, "RS256", k.rsa, map[string]any{"typ": "JWE", "cty": "JWT"}, goodClaims()), Rejected},
		{"an extension", sign(t, "RS256", k.rsa, map[string]any{"crit": []string{"b64"}, "b64": false}, goodClaims()), Rejected},
		{"an empty extension", sign(t, "RS256", k.rsa, map[string]any{"crit": []string{}}, goodClaims()), Rejected},
		{"a token for a log-out", sign(t, "RS256", k.rsa, map[string]any{"typ": "logout+jwt"}, goodClaims()), Rejected},
		{"too large", sign(t, "RS256", k.rsa, nil, with(jwt.MapClaims{"x": strings.Repeat("x", maxToken)})), Rejected},
		{"nothing", "", Rejected},
	} {
		t.Run(c.name, func(t *testing.T) {
			for look := range 2 { // the second may be from memory
				claims, verdict := tokens.Verify([]byte(c.token))
				if verdict != c.want || (claims != nil) != (c.want == Accepted) {
					t.Fatalf("look %d: %v, claims %v; want %v", look, verdict, claims, c.want)
				}
				if claims != nil && (claims.Subject != "alice" || string(claims.Text("level")) != "7" || string(claims.Text("admin")) != "false" || claims.Text("roles") != nil) {
					t.Errorf("claims %+v", claims)
				}
			}
		})
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// next is a base64 character with the same high bits as c and other low ones, which stand for nothing.
func next(c byte) string {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	return string(alphabet[strings.IndexByte(alphabet, c)^1])
}

// signRaw signs a payload that need not be claims.
func signRaw(t *testing.T, k *keyring, payload string) string {
	t.Helper()
	text := b64([]byte(`{"alg":"RS256","typ":"JWT"}`)) + "." + b64([]byte(payload))
	signature, err := jwt.SigningMethodRS256.Sign(text, k.rsa)
	if err != nil {
		t.Fatal(err)
	}
	return text + "." + b64(signature)
}

// TestTokensAreForgotten: a token that was accepted is not when its time or its key is over.
func TestTokensAreForgotten(t *testing.T) {
	k, now := newKeyring(t), noon
	source := k.source(t)
	tokens, err := newTokens(policy(), source, func() time.Time { return now })
	if err != nil {
		t.Fatal(err)
	}
	token := []byte(sign(t, "ES256", k.p256, kid("p256"), goodClaims()))
	want := func(want Verdict) {
		t.Helper()
		if _, got := tokens.Verify(token); got != want {
			t.Errorf("%v, want %v", got, want)
		}
	}
	want(Accepted)
	now = noon.Add(69 * time.Second) // exp and the leeway
	want(Accepted)
	now = noon.Add(71 * time.Second)
	want(Expired)
	want(Expired)
	now = noon
	want(Accepted)
	all := source.set
	source.set, err = ParseKeySet(document(t, published(t, &k.rsa.PublicKey, "rsa")))
	if err != nil {
		t.Fatal(err)
	}
	want(Rejected)
	if source.misses != 1 {
		t.Errorf("%d misses, want 1", source.misses)
	}
	source.set = nil
	want(NoKeys)
	if _, verdict := tokens.Verify([]byte("nonsense")); verdict != Rejected {
		t.Errorf("nonsense without keys: %v", verdict)
	}
	source.set = all
	want(Accepted)
}

func TestTokensRefuseAPolicy(t *testing.T) {
	for _, algorithms := range [][]string{nil, {"HS256"}, {"none"}, {"RS256", "HS512"}, {"rs256"}} {
		if _, err := NewTokens(Policy{Algorithms: algorithms}, &still{}); err == nil {
			t.Errorf("%v was accepted", algorithms)
		}
	}
}

func TestParseKeySet(t *testing.T) {
	k := newKeyring(t)
	small, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	changed := func(of crypto.PublicKey, name string, v any) jwk {
		j := published(t, of, "k")
		j[name] = v
		return j
	}
	for name, j := range map[string]jwk{
		"a secret":            {"kty": "oct", "k": "AAAA"},
		"1024 bits":           published(t, &small.PublicKey, ""),
		"16384 bits":          changed(&k.rsa.PublicKey, "n", b64(append([]byte{1}, make([]byte, 2048)...))),
		"an even exponent":    changed(&k.rsa.PublicKey, "e", "Ag"),
		"an exponent of 1":    changed(&k.rsa.PublicKey, "e", "AQ"),
		"an endless exponent": changed(&k.rsa.PublicKey, "e", strings.Repeat("AQAB", 10)),
		"no modulus":          changed(&k.rsa.PublicKey, "n", ""),
		"off the curve":       changed(&k.p256.PublicKey, "x", b64(make([]byte, 32))),
		"a short coordinate":  changed(&k.p256.PublicKey, "y", "AAAA"),
		"an unknown curve":    changed(&k.p256.PublicKey, "crv", "secp256k1"),
		"half a key":          changed(k.ed.Public(), "x", "AAAA"),
		"X25519":              changed(k.ed.Public(), "crv", "X25519"),
		"for encryption":      changed(&k.rsa.PublicKey, "use", "enc"),
		"for signing only":    changed(&k.rsa.PublicKey, "key_ops", []string{"sign"}),
		"another algorithm":   changed(&k.rsa.PublicKey, "alg", "ES256"),
		"a secret algorithm":  changed(&k.rsa.PublicKey, "alg", "HS256"),
		"a number":            changed(&k.rsa.PublicKey, "n", 5),
	} {
		if _, err := ParseKeySet(document(t, j)); err == nil {
			t.Errorf("%s was accepted", name)
		}
		set, err := ParseKeySet(document(t, j, published(t, &k.rsa.PublicKey, "good")))
		if err != nil || len(set.keys) != 1 {
			t.Errorf("%s beside a good key: %v", name, err)
		}
	}
	for _, text := range []string{"", "{}", "[]", `{"keys":{}}`, `{"keys":[]}`, "<html>"} {
		if _, err := ParseKeySet([]byte(text)); err == nil {
			t.Errorf("%q was accepted", text)
		}
	}
}

func BenchmarkTokens(b *testing.B) {
	k := newKeyring(b)
	for _, c := range []struct {
		alg, id string
		key     any
	}{{"RS256", "rsa", k.rsa}, {"ES256", "p256", k.p256}, {"ES384", "p384", k.p384}, {"EdDSA", "ed", k.ed}} {
		token := []byte(sign(b, c.alg, c.key, kid(c.id), goodClaims()))
		source := k.source(b)
		tokens, err := newTokens(policy(), source, func() time.Time { return noon })
		if err != nil {
			b.Fatal(err)
		}
		b.Run(c.alg+"/first", func(b *testing.B) {
			for b.Loop() {
				tokens.known.Store(nil)
				tokens.Verify(token)
			}
		})
		b.Run(c.alg+"/again", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				tokens.Verify(token)
			}
		})
	}
}
