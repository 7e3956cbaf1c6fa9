package auth

import (
	"encoding/base64"
	"testing"
	"time"
)

// FuzzTokens: nothing but what the issuer has signed is accepted, and nothing makes the verifier panic.
func FuzzTokens(f *testing.F) {
	k := newKeyring(f)
	tokens, err := newTokens(policy(), k.source(f), func() time.Time { return noon })
	if err != nil {
		f.Fatal(err)
	}
	signed := map[string]bool{}
	for _, c := range []struct {
		alg, id string
		key     any
	}{{"RS256", "rsa", k.rsa}, {"EdDSA", "ed", k.ed}, {"RS256", "", k.rsa}} {
		token := sign(f, c.alg, c.key, kid(c.id), goodClaims())
		signed[token] = true
		f.Add([]byte(token))
		f.Add([]byte(token[:len(token)-1]))
	}
	f.Add([]byte(b64([]byte(`{"alg":"none"}`)) + "." + b64([]byte(`{"iss":"https://issuer.example.com"}`)) + "."))
	f.Add([]byte(b64([]byte(`{"alg":"RS256","kid":[{}],"crit":null,"typ":5}`)) + "..AAAA"))
	f.Fuzz(func(t *testing.T, token []byte) {
		for range 2 {
			claims, verdict := tokens.Verify(token)
			if (verdict == Accepted) != signed[string(token)] || (claims != nil) != (verdict == Accepted) {
				t.Fatalf("%q: %v", token, verdict)
			}
		}
	})
}

// FuzzFiles: whatever a file holds, reading it neither panics nor lets anybody in who has nothing.
func FuzzFiles(f *testing.F) {
	f.Add([]byte("acme:sha256:2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b\n# x\nb:c\n"))
	f.Add([]byte("alice:$2y$05$abcdefghijklmnopqrstuuABCDEFGHIJKLMNOPQRSTUVWXYZ01234\n"))
	f.Add([]byte(`{"keys":[{"kty":"RSA","n":"AQAB","e":"AQAB"},{"kty":"EC","crv":"P-256","x":"","y":null},5,null]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		if keys, err := ParseKeys(data); err == nil {
			if name, ok := keys.Find(nil); ok {
				t.Errorf("no key is that of %s", name)
			}
		}
		if users, err := ParseUsers(data); err == nil {
			if name, ok := users.Recall(nil, nil); ok {
				t.Errorf("nobody is %s", name)
			}
		}
		if set, err := ParseKeySet(data); err == nil && len(set.keys) == 0 {
			t.Error("a set without keys")
		}
		if name, _, ok := Basic([]byte(base64.StdEncoding.EncodeToString(data))); ok && len(name) > len(data) {
			t.Errorf("%q", name)
		}
	})
}
