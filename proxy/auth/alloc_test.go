//go:build !race

package auth

import (
	"testing"
	"time"
)

// TestWhatIsKnownCostsNoMemory: who has been let in before.
func TestWhatIsKnownCostsNoMemory(t *testing.T) {
	k := newKeyring(t)
	tokens, err := newTokens(policy(), k.source(t), func() time.Time { return noon })
	if err != nil {
		t.Fatal(err)
	}
	token, key := []byte(sign(t, "ES256", k.p256, kid("p256"), goodClaims())), []byte("0123456789abcdef")
	keys, err := ParseKeys([]byte("acme:0123456789abcdef\n"))
	if err != nil {
		t.Fatal(err)
	}
	for name, look := range map[string]func() bool{
		"a token": func() bool { _, v := tokens.Verify(token); return v == Accepted },
		"a key":   func() bool { _, ok := keys.Find(key); return ok },
	} {
		if !look() {
			t.Errorf("%s is not accepted", name)
		}
		if n := testing.AllocsPerRun(500, func() { look() }); n != 0 {
			t.Errorf("%s: %v allocations, want none", name, n)
		}
	}
}
