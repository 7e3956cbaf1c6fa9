package proxy

import (
	"encoding/hex"
	"net/netip"
	"strings"
	"testing"

	"weir/config"
)

// TestPresentation: headers are those of the specification, and say what readIntroduction reads from them.
func TestPresentation(t *testing.T) {
	const mark = "0d0a0d0a000d0a515549540a"
	addr := netip.MustParseAddrPort
	client4, server4, client6, server6 := addr("1.2.3.4:12345"), addr("10.0.0.1:80"), addr("[2001:db8::7]:12345"), addr("[::1]:80")
	ofClient := func(client, server netip.AddrPort) presentation {
		return presentation{client: client, server: server, someones: true}
	}
	mapped := "00000000000000000000ffff"
	for name, c := range map[string]struct {
		p      presentation
		v1, v2 string
	}{
		"IPv4":                  {ofClient(client4, server4), "PROXY TCP4 1.2.3.4 10.0.0.1 12345 80\r\n", "2111000c" + "01020304" + "0a000001" + "30390050"},
		"IPv6":                  {ofClient(client6, server6), "PROXY TCP6 2001:db8::7 ::1 12345 80\r\n", "21210024" + "20010db8000000000000000000000007" + "00000000000000000000000000000001" + "30390050"},
		"IPv4 to IPv6":          {ofClient(client4, server6), "PROXY TCP6 ::ffff:1.2.3.4 ::1 12345 80\r\n", "21210024" + mapped + "01020304" + "00000000000000000000000000000001" + "30390050"},
		"IPv6 to IPv4":          {ofClient(client6, server4), "PROXY TCP6 2001:db8::7 ::ffff:10.0.0.1 12345 80\r\n", "21210024" + "20010db8000000000000000000000007" + mapped + "0a000001" + "30390050"},
		"IPv4 on a Unix socket": {ofClient(addr("1.2.3.4:0"), netip.AddrPort{}), "PROXY TCP4 1.2.3.4 0.0.0.0 0 0\r\n", "2111000c" + "01020304" + "00000000" + "00000000"},
		"IPv6 on a Unix socket": {ofClient(addr("[::7]:0"), netip.AddrPort{}), "PROXY TCP6 ::7 :: 0 0\r\n", "21210024" + "00000000000000000000000000000007" + strings.Repeat("0", 32) + "00000000"},
		"with a zone":           {ofClient(addr("[fe80::1%eth0]:5"), server6), "PROXY TCP6 fe80::1 ::1 5 80\r\n", "21210024" + "fe800000000000000000000000000001" + "00000000000000000000000000000001" + "00050050"},
		"of a Unix socket":      {ofClient(netip.AddrPort{}, netip.AddrPort{}), "PROXY UNKNOWN\r\n", "21000000"},
		"weir's own":            {presentation{}, "PROXY UNKNOWN\r\n", "20000000"},
	} {
		t.Run(name, func(t *testing.T) {
			v1, v2 := c.p.header(nil, config.ProxyV1), c.p.header(nil, config.ProxyV2)
			if string(v1) != c.v1 {
				t.Errorf("version 1: %q, want %q", v1, c.v1)
			}
			if got := hex.EncodeToString(v2); got != mark+c.v2 {
				t.Errorf("version 2: %s, want %s", got, mark+c.v2)
			}
			client, server := c.p.sameFamily()
			want := introduction{client: client, server: server}
			if client.IsValid() {
				unmapped := func(a netip.AddrPort) netip.AddrPort { return netip.AddrPortFrom(a.Addr().Unmap(), a.Port()) }
				want = introduction{unmapped(client), unmapped(server)}
			}
			for _, b := range [][]byte{v1, v2} {
				if in, err := readIntroduction(strings.NewReader(string(b))); err != nil || in != want {
					t.Errorf("%q is read as %+v, %v; want %+v", b, in, err, want)
				}
			}
		})
	}
}
