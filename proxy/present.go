package proxy

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"strconv"

	"weir/balancer"
	"weir/config"
)

// What introduce.go reads, weir also says: connections to the endpoints of a pool with proxy_protocol begin with a header
// that tells whose they are. One of them carries one request, so that none is another client's.

// presentation is what a header says. The zero value is that the connection is weir's own.
type presentation struct {
	client, server netip.AddrPort // as on weir's side of the client; the zero AddrPort: it has none
	someones       bool           // it is a client's
}

// present says whose request it is: the client as weir knows it, with the port that it came from where that is known.
func (r *request) present() presentation {
	p := presentation{someones: true}
	if !r.client.IsValid() {
		return p
	}
	port := uint16(0)
	if r.client == r.c.peer {
		port = r.c.port
	}
	p.client = netip.AddrPortFrom(r.client, port)
	if p.server = r.c.local(); r.c.aim != nil {
		p.server = *r.c.aim
	}
	return p
}

// header appends the header of a version.
func (p presentation) header(b []byte, version string) []byte {
	client, server := p.sameFamily()
	if version == config.ProxyV1 {
		return appendLine(b, client, server)
	}
	const unspecified = 0x00
	command, family := byte(0x21), byte(unspecified) // PROXY
	if !p.someones {
		command = 0x20 // LOCAL
	}
	var addresses []byte
	if client.IsValid() {
		if family = introducedTCP6; client.Addr().Is4() {
			family = introducedTCP4
		}
		addresses = append(append(addresses, client.Addr().AsSlice()...), server.Addr().AsSlice()...)
		addresses = binary.BigEndian.AppendUint16(addresses, client.Port())
		addresses = binary.BigEndian.AppendUint16(addresses, server.Port())
	}
	b = append(append(b, introductionMark...), command, family)
	return append(binary.BigEndian.AppendUint16(b, uint16(len(addresses))), addresses...)
}

// appendLine appends the header of version 1.
func appendLine(b []byte, client, server netip.AddrPort) []byte {
	if !client.IsValid() {
		return append(b, "PROXY UNKNOWN\r\n"...)
	}
	family := "TCP6 "
	if client.Addr().Is4() {
		family = "TCP4 "
	}
	b = append(append(b, "PROXY "...), family...)
	b = append(client.Addr().AppendTo(b), ' ')
	b = append(server.Addr().AppendTo(b), ' ')
	b = append(strconv.AppendUint(b, uint64(client.Port()), 10), ' ')
	return append(strconv.AppendUint(b, uint64(server.Port()), 10), "\r\n"...)
}

// sameFamily returns both addresses in one family, without zones, since a header has one. Where weir's own is not known
// it is the unspecified one.
func (p presentation) sameFamily() (client, server netip.AddrPort) {
	if !p.client.IsValid() {
		return netip.AddrPort{}, netip.AddrPort{}
	}
	c, s := p.client.Addr().Unmap().WithZone(""), p.server.Addr().Unmap().WithZone("")
	switch {
	case !s.IsValid() && c.Is4():
		s = netip.IPv4Unspecified()
	case !s.IsValid():
		s = netip.IPv6Unspecified()
	case c.Is4() != s.Is4():
		c, s = netip.AddrFrom16(c.As16()), netip.AddrFrom16(s.As16()) // IPv4 in IPv6's clothes
	}
	return netip.AddrPortFrom(c, p.client.Port()), netip.AddrPortFrom(s, p.server.Port())
}

// presenter says whose a connection that is being made to an endpoint is going to be; nil: weir's own.
type presenter interface{ present() presentation }

// introduce sends the header on a new connection, which it closes where that fails. What it sends always fits into what
// the system buffers.
func (t *transport) introduce(d descriptor, version string, who presenter) error {
	var p presentation
	if who != nil {
		p = who.present()
	}
	var s socket
	s.open(d, t.ops)
	if _, err := s.write(p.header(nil, version)); err != nil {
		d.close()
		return err
	}
	return nil
}

// presentOwn has a connection of package net begin as those to e do, for what weir asks by itself and for copies: the
// header, if one is asked for, says that it is weir's own. It closes nc where it fails.
func presentOwn(e *balancer.Endpoint, nc net.Conn) error {
	t, ok := e.Transport.(*transport)
	if !ok {
		return nil
	}
	s := t.settings.Load()
	if s == nil || s.introduce == "" {
		return nil
	}
	if _, err := nc.Write(presentation{}.header(nil, s.introduce)); err != nil {
		_ = nc.Close()
		return fmt.Errorf("the PROXY header: %w", err)
	}
	return nil
}

// openConn is presentOwn and secureConn.
func openConn(ctx context.Context, e *balancer.Endpoint, nc net.Conn) (net.Conn, error) {
	if err := presentOwn(e, nc); err != nil {
		return nil, err
	}
	return secureConn(ctx, e, nc)
}
