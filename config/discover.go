package config

import (
	"fmt"
	"net/netip"
	"strings"
	"time"
)

// Discover finds the endpoints of a pool by a name, as replicas come and go.
type Discover struct {
	// DNS is HOST:PORT: every address of the host is an endpoint at that port. Or it is the name of SRV records, which
	// begins with an underscore and has no port, as in _http._tcp.ml-api.default.svc.cluster.local: every record of the
	// best priority is an endpoint, of its host, port and weight.
	DNS string
	// Interval is from one look-up to the next, 10 % more or less.
	Interval time.Duration
	// Server is the IP:PORT of the name server that is asked; "": the system's.
	Server string
}

// DefaultDiscover is a discovery without a name, which has no default.
func DefaultDiscover() Discover { return Discover{Interval: 5 * time.Second} }

// SRV reports whether the name is one of SRV records.
func (d *Discover) SRV() bool { return strings.HasPrefix(d.DNS, "_") && !strings.Contains(d.DNS, ":") }

func discoverShape() shape[*Discover] {
	return optional[Discover]{fresh: DefaultDiscover, inner: object[Discover]{fields: []field[Discover]{
		key("dns", scalar[string]{
			want: "HOST:PORT, or the name of SRV records such as _http._tcp.ml-api.example.com", free: true,
			format: verbatim, body: textSchema, parse: parseDiscovered,
		}, func(d *Discover) *string { return &d.DNS },
			"HOST:PORT, of which every address is an endpoint (those of IPv4 where it has some, else those of IPv6), or the name of SRV records, which begins with an underscore and has no port: those of the lowest priority are endpoints, with their weights. An answer that cannot be had, or is empty, changes nothing.").must(),
		key("interval", durationShape(), func(d *Discover) *time.Duration { return &d.Interval },
			"From one look-up to the next, 10 % more or less at random."),
		key("server", scalar[string]{
			want: "the IP:PORT of a name server", free: true, optional: true, format: verbatim, body: textSchema, parse: parseNameServer,
		}, func(d *Discover) *string { return &d.Server },
			"The name server that is asked, IP:PORT. Absent: those of the system."),
	}}}
}

// parseDiscovered reads HOST:PORT with a name for host, or the name of SRV records.
func parseDiscovered(s string) (string, error) {
	if strings.HasPrefix(s, "_") && !strings.Contains(s, ":") {
		name := strings.ToLower(strings.TrimSuffix(s, "."))
		if err := checkHostName(name); err != nil {
			return "", fmt.Errorf("%q: %w", clip(s), err)
		}
		return name, nil
	}
	if _, ok := UnixPath(s); ok {
		return "", fmt.Errorf("%q is a Unix socket, which no name server knows; write HOST:PORT, or name it in endpoints", clip(s))
	}
	address, err := parseEndpointAddress(s)
	if err != nil {
		return "", err
	}
	if _, err := netip.ParseAddrPort(address); err == nil {
		return "", fmt.Errorf("%q is an address, not a name; write it in endpoints", clip(s))
	}
	return address, nil
}

func parseNameServer(s string) (string, error) {
	a, err := netip.ParseAddrPort(s)
	if err != nil || a.Port() == 0 {
		return "", fmt.Errorf("%q is no address of a name server; write IP:PORT, as in 10.96.0.10:53", clip(s))
	}
	return a.String(), nil
}
