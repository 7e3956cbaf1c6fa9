package proxy

import (
	"slices"
	"testing"

	"weir/config"
	"weir/proxy/cache"
)

// TestCacheSecrets: a field that the route's keys come in is one with credentials.
func TestCacheSecrets(t *testing.T) {
	c := config.Route{Cache: &config.Cache{MaxBytes: 1000}}
	plain := newCached(c, nil)
	c.Auth = &config.Auth{APIKey: &config.APIKeyAuth{Header: "X-Model-Key"}}
	keyed := newCached(c, plain)
	if slices.Contains(plain.secrets, "x-model-key") || !slices.Contains(keyed.secrets, "x-model-key") {
		t.Errorf("%q, %q", plain.secrets, keyed.secrets)
	}
	if plain.rules == keyed.rules || plain.live != keyed.live {
		t.Error("what was kept without keys is found with them, or is lost")
	}
	if c.Cache = nil; newCached(c, keyed) != nil {
		t.Error("a cache that nobody asks for")
	}
}

// TestVerdict: what becomes of those who have waited in vain.
func TestVerdict(t *testing.T) {
	for _, c := range []struct {
		k, rescued kind
		want       cache.Verdict
	}{
		{success, success, cache.Alone}, {clientGone, success, cache.Again}, {expired, success, cache.Again}, {success, expired, cache.Again},
		{totalTimeout, success, cache.Again}, {attemptTimeout, success, cache.Again}, {success, totalTimeout, cache.Failed},
		{connectFailed, success, cache.Failed}, {success, supplanted, cache.Failed}, {shed, success, cache.Failed}, {clientGone, supplanted, cache.Again},
	} {
		if v := verdict(c.k, c.rescued); v != c.want {
			t.Errorf("%d, rescued from %d: %d, want %d", c.k, c.rescued, v, c.want)
		}
	}
}
