//go:build !race

package proxy

import (
	"bytes"
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"weir/config"
)

// TestGateDoesNotAllocate: to look at the client's address, at a key or at the origin costs memory once, when the
// route is built.
func TestGateDoesNotAllocate(t *testing.T) {
	keys := filepath.Join(t.TempDir(), "keys")
	if err := os.WriteFile(keys, []byte("acme:0123456789abcdef\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*config.Route){
		"allow and deny": func(c *config.Route) {
			c.Allow = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("10.0.0.0/8")}
			c.Deny = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}
		},
		"a key": func(c *config.Route) {
			c.Auth = &config.Auth{APIKey: &config.APIKeyAuth{Header: "X-API-Key", File: keys}}
		},
		"origins": func(c *config.Route) {
			c.CORS = &config.CORS{Origins: []string{"https://app.example.com", "https://*.example.org"}, Credentials: true}
		},
	} {
		p, _ := changedProxy(t, change, costEndpoint(t, costAnswer), costEndpoint(t, costAnswer))
		end := []byte("\r\n\r\n")
		request := bytes.Replace([]byte(costRequest), end, []byte("\r\nX-API-Key: 0123456789abcdef\r\nOrigin: https://a.example.org\r\n\r\n"), 1)
		trip := tripsOf(t, p, request, "{\"prediction\":1}")
		for range 50 {
			trip()
		}
		if n := testing.AllocsPerRun(2000, trip); n > 0 {
			t.Errorf("%s: %v allocations per request, want none", name, n)
		}
	}
}
