package config

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
)

// LoopbackAddress reports whether HOST:PORT (no Unix socket) can only be reached from this machine: the
// host is localhost or a loopback address. It resolves nothing.
func LoopbackAddress(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return false
	}
	if strings.EqualFold(host, "localhost") {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.Unmap().IsLoopback()
}

// parseEndpointAddress reads the HOST:PORT of an endpoint, or unix:PATH, and writes it in one way, so that
// the same endpoint always has the same identity: host names in lower case, IPv6 in its
// short form.
func parseEndpointAddress(s string) (string, error) {
	if path, ok := UnixPath(s); ok {
		return s, checkSocketPath(path)
	}
	host, port, err := splitAddress(s, "127.0.0.1:8001")
	if err != nil {
		return "", err
	}
	if host == "" {
		return "", fmt.Errorf("%q has no host; write HOST:PORT, as in 127.0.0.1%s", clip(s), clip(s))
	}
	if port == 0 {
		return "", fmt.Errorf("%q has port 0; write the port the endpoint listens on, 1 to 65535", clip(s))
	}
	return joinAddress(host, port), nil
}

// parseListenAddress reads the HOST:PORT of a listener, or unix:PATH. The host may be missing (every
// interface), the port may be 0 (the system chooses).
func parseListenAddress(s string) (string, error) {
	if path, ok := UnixPath(s); ok {
		return s, checkSocketPath(path)
	}
	return parseAdminAddress(s)
}

// parseAdminAddress reads the HOST:PORT of the admin listener.
func parseAdminAddress(s string) (string, error) {
	if _, ok := UnixPath(s); ok {
		return "", fmt.Errorf("%q is a Unix socket, which the admin listener cannot be; write HOST:PORT, as in 127.0.0.1:9901", clip(s))
	}
	host, port, err := splitAddress(s, "127.0.0.1:8080 or :8080")
	if err != nil {
		return "", err
	}
	return joinAddress(host, port), nil
}

func joinAddress(host string, port uint16) string {
	return net.JoinHostPort(host, strconv.Itoa(int(port)))
}

func splitAddress(s, example string) (host string, port uint16, err error) {
	if scheme, rest, ok := strings.Cut(s, "://"); ok {
		return "", 0, fmt.Errorf("%q has a scheme (%s); write only HOST:PORT, as in %s", clip(s), clip(scheme), clip(strings.TrimRight(rest, "/")))
	}
	if strings.ContainsRune(s, '/') {
		return "", 0, fmt.Errorf("%q is no address; write HOST:PORT, as in %s", clip(s), example)
	}
	host, digits, err := net.SplitHostPort(s)
	if err != nil {
		if ip, err := netip.ParseAddr(strings.Trim(s, "[]")); err == nil && ip.Is6() {
			return "", 0, fmt.Errorf("%q has no port; write [%s]:PORT", clip(s), ip)
		}
		if !strings.ContainsRune(s, ':') {
			return "", 0, fmt.Errorf("%q has no port; write HOST:PORT, as in %s", clip(s), example)
		}
		return "", 0, fmt.Errorf("%q is no address; write HOST:PORT, as in %s or [::1]:8080", clip(s), example)
	}
	if port, err = parsePort(digits); err != nil {
		return "", 0, fmt.Errorf("%q: %w", clip(s), err)
	}
	host, err = parseAddressHost(host)
	if err != nil {
		return "", 0, fmt.Errorf("%q: %w", clip(s), err)
	}
	return host, port, nil
}

func parsePort(digits string) (uint16, error) {
	port, err := strconv.ParseUint(digits, 10, 16)
	if err != nil || digits != strconv.FormatUint(port, 10) {
		return 0, fmt.Errorf("the port is %q; write a number from 1 to 65535", clip(digits))
	}
	return uint16(port), nil
}

func parseAddressHost(host string) (string, error) {
	if host == "" {
		return "", nil
	}
	if ip, err := netip.ParseAddr(host); err == nil {
		return ip.String(), nil
	}
	if err := checkHostName(host); err != nil {
		return "", err
	}
	return strings.ToLower(host), nil
}

// checkHostName accepts DNS names, underscores included, because container networks use
// them. Four numbers with dots are a mistyped IPv4 address, never a name.
func checkHostName(name string) error {
	labels := strings.Split(strings.TrimSuffix(name, "."), ".")
	for _, label := range labels {
		if label == "" || len(label) > 63 || strings.HasPrefix(label, "-") || strings.HasSuffix(label, "-") {
			return fmt.Errorf("%q is no host name: each part between dots has 1 to 63 letters, digits or hyphens inside", clip(name))
		}
		for _, r := range label {
			if !strings.ContainsRune(keyLetters, r) {
				return fmt.Errorf("%q is no host name: %q is not allowed; use letters, digits, hyphens and dots (xn--… for other scripts)", clip(name), r)
			}
		}
	}
	if len(name) > 253 {
		return errors.New("a host name has at most 253 characters")
	}
	if strings.Trim(labels[len(labels)-1], "0123456789") == "" {
		return fmt.Errorf("%q is no IP address and no host name", clip(name))
	}
	return nil
}

// parseMatchHost reads the host of a match: exact, or with *. in front for every name below.
func parseMatchHost(s string) (string, error) {
	if s == "*" {
		return "", errors.New(`"*" is every host; leave host out for that`)
	}
	name := strings.TrimPrefix(s, "*.")
	if strings.Contains(name, "*") {
		return "", fmt.Errorf("%q: a wildcard stands only in front, as in *.example.com", clip(s))
	}
	if ip, err := netip.ParseAddr(strings.Trim(name, "[]")); err == nil && name == s {
		if ip.Is6() {
			return "[" + ip.String() + "]", nil
		}
		return ip.String(), nil
	}
	if host, _, err := net.SplitHostPort(name); err == nil {
		return "", fmt.Errorf("%q has a port; write %s: a route matches the host on every listener", clip(s), clip(host))
	}
	if strings.HasSuffix(name, ".") {
		return "", fmt.Errorf("%q ends with a dot; leave it out", clip(s))
	}
	if err := checkHostName(name); err != nil {
		return "", err
	}
	return strings.ToLower(s), nil
}

// parseNetwork reads a network in CIDR form, or one address, or unix:, which is the zero Prefix.
func parseNetwork(s string) (netip.Prefix, error) {
	if s == unixPrefix {
		return netip.Prefix{}, nil
	}
	if !strings.Contains(s, "/") {
		ip, err := netip.ParseAddr(s)
		if err != nil || ip.Zone() != "" {
			return netip.Prefix{}, fmt.Errorf("%q is no network; write one as 10.0.0.0/8 or fd00::/8, or one address as 10.1.2.3", clip(s))
		}
		return netip.PrefixFrom(ip.Unmap(), ip.Unmap().BitLen()), nil
	}
	prefix, err := netip.ParsePrefix(s)
	if err != nil {
		return netip.Prefix{}, fmt.Errorf("%q is no network; write one as 10.0.0.0/8 or fd00::/8, or one address as 10.1.2.3", clip(s))
	}
	if prefix.Addr().Is4In6() {
		return netip.Prefix{}, fmt.Errorf("%q is an IPv4 network in IPv6 clothes; write it as IPv4, as in 10.0.0.0/8", clip(s))
	}
	if masked := prefix.Masked(); masked != prefix {
		return netip.Prefix{}, fmt.Errorf("%q has bits set outside its mask; write %s for the network or %s for the one address", clip(s), masked, prefix.Addr())
	}
	return prefix, nil
}

// formatNetwork writes one address without its mask, as people do.
func formatNetwork(p netip.Prefix) string {
	if !p.IsValid() {
		return unixPrefix
	}
	if p.IsSingleIP() {
		return p.Addr().String()
	}
	return p.String()
}
