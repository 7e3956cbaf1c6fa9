package config

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"path/filepath"
	"strconv"
	"strings"
)

// unixPrefix is what the address of a Unix socket begins with; by itself it stands for all clients on such sockets.
const unixPrefix = "unix:"

// longestSocketPath is what fits into a sockaddr_un of Linux, in bytes.
const longestSocketPath = 107

// UnixPath returns the path of an address that is a Unix socket's.
func UnixPath(address string) (path string, ok bool) { return strings.CutPrefix(address, unixPrefix) }

// DefaultSocketMode is the mode of the file of a Unix socket that a listener makes.
const DefaultSocketMode fs.FileMode = 0o660

// SocketMode returns the mode of the file of a listener on a Unix socket.
func (l *Listener) SocketMode() fs.FileMode {
	if l.Mode == 0 {
		return DefaultSocketMode
	}
	return l.Mode
}

// checkSocketPath accepts an absolute path, written in the one way that is not longer than it must be, so that a socket
// has one name.
func checkSocketPath(path string) error {
	example := "write an absolute path, as in unix:/run/model.sock"
	switch clean := filepath.Clean(path); {
	case path == "":
		return errors.New("unix: has no path; " + example)
	case strings.HasPrefix(path, "@"):
		return fmt.Errorf("%q is an abstract socket, which has no file whose mode could guard it; %s", clip(path), example)
	case !filepath.IsAbs(path):
		return fmt.Errorf("the path %q is not absolute; %s", clip(path), example)
	case strings.ContainsFunc(path, control):
		return fmt.Errorf("the path %q has a control character; %s", clip(path), example)
	case clean == "/":
		return fmt.Errorf("the path %q is a directory; %s", clip(path), example)
	case clean != path:
		return fmt.Errorf("the path %q can be written shorter; write %s%s", clip(path), unixPrefix, clip(clean))
	case len(path) > longestSocketPath:
		return fmt.Errorf("the path of the socket has %d bytes; the system takes at most %d", len(path), longestSocketPath)
	}
	return nil
}

// socketModeShape is a mode as chmod takes it. It is a text, since YAML readers disagree about numbers with leading zeros.
func socketModeShape() shape[fs.FileMode] {
	return unlessZero(scalar[fs.FileMode]{
		want: `a mode such as "0660"`, free: true,
		parse: func(s string) (fs.FileMode, error) {
			m, err := strconv.ParseUint(s, 8, 32)
			if err != nil || m == 0 || m > 0o777 || len(s) < 3 || len(s) > 4 {
				return 0, fmt.Errorf("%q is no mode of a file; write three octal digits, with a 0 before them or not, as in %q", clip(s), "0660")
			}
			if m&0o600 != 0o600 {
				return 0, fmt.Errorf("the mode %q keeps weir's own user out; write one with 6 for the owner, as in %q", clip(s), "0660")
			}
			return fs.FileMode(m), nil
		},
		format: func(m fs.FileMode) string { return fmt.Sprintf("%04o", uint32(m)) },
		body:   func() schema { return orVariable(schema{"type": "string", "pattern": `^0?[0-7]{3}$`}) },
	})
}

// validateSocket refuses a mode where there is no file that could have it.
func validateSocket(r *report, l *Listener, at string) {
	if _, ok := UnixPath(l.Address); !ok && l.Address != "" && l.Mode != 0 {
		r.fault(at+".mode", "has no effect on %s, because only a Unix socket has a file; leave it out", l.Address)
	}
}

// proxyVersionShape is a version of the PROXY protocol, or none.
func proxyVersionShape() shape[string] {
	words := []string{ProxyV1, ProxyV2, wordOff}
	return scalar[string]{
		want: choices(words, "or"), off: true, optional: true, format: verbatim,
		parse: func(s string) (string, error) {
			switch s {
			case ProxyV1, ProxyV2:
				return s, nil
			case wordOff:
				return "", nil
			}
			return "", fmt.Errorf("unknown version %q of the PROXY protocol; want %s", clip(s), choices(words, "or"))
		},
		body: func() schema { return orVariable(schema{"enum": words}, schema{"const": false}) },
	}
}

// validateProxyProtocol refuses a header that says whose a connection is where many clients share it.
func validateProxyProtocol(r *report, p *Pool, at string) {
	if p.ProxyProtocol != "" && p.Protocol == ProtocolHTTP2 && r.sound(child(at, "protocol")) {
		r.fault(child(at, "proxy_protocol"), "%s says whose a connection is, and with protocol: %s clients share connections; write protocol: %s, or leave it out, and have the endpoints read X-Forwarded-For",
			p.ProxyProtocol, ProtocolHTTP2, ProtocolHTTP1)
	}
}

// Covers reports whether a client's address is in a network. The zero Addr is that of every client on a Unix socket; the
// zero Prefix, unix: in the file, is their network.
func Covers(network netip.Prefix, client netip.Addr) bool {
	return network.Contains(client) || !client.IsValid() && !network.IsValid()
}
