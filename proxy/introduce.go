package proxy

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"net/netip"
	"strconv"
	"strings"

	"go.uber.org/zap"
)

// The PROXY protocol, versions 1 and 2 (https://www.haproxy.org/download/3.2/doc/proxy-protocol.txt): what stands before
// weir says in front of a connection's first bytes whose it is.

// introduced reads who a connection's client is, within the time of a head. It runs on the connection's own strand, so
// that who is slow to say so holds up nobody else. After a failure the connection is to end.
func (c *conn) introduced() bool {
	if c.fused && !c.awaitFirst() {
		return false
	}
	c.mu.Lock()
	c.beginHead()
	c.mu.Unlock()
	in, err := readIntroduction(c)
	if err != nil {
		c.listener.p.badRequests.add("proxy_protocol")
		c.listener.p.log.Debug("a connection did not begin with a PROXY protocol header", zap.String("listener", c.listener.address),
			zap.ByteString("peer", c.ip), zap.Error(err))
		return false
	}
	if in.client.IsValid() {
		c.peer, c.port, c.aim = in.client.Addr(), in.client.Port(), &in.server
		c.ip = c.peer.AppendTo(nil)
	}
	c.mu.Lock()
	c.beginIdle()
	c.mu.Unlock()
	return true
}

// Sizes of headers, in bytes.
const (
	shortestIntroduction = len("PROXY UNKNOWN\r\n") // no header is shorter
	longestLine          = 107
	introductionHead     = 16 // of version 2
	longestIntroduction  = 4 << 10
)

const introductionMark = "\r\n\r\n\x00\r\nQUIT\n"

var errNoIntroduction = errors.New("want a header of the PROXY protocol")

// introduction is what a header says: the client, and what it connected to. It is zero where the header says that the
// connection is nobody else's than its peer's, or a client's without an IP address.
type introduction struct{ client, server netip.AddrPort }

// readIntroduction reads a header, and nothing of what comes after it.
func readIntroduction(r io.Reader) (introduction, error) {
	b := make([]byte, shortestIntroduction, longestLine)
	if _, err := io.ReadFull(r, b); err != nil {
		return introduction{}, err
	}
	switch {
	case bytes.HasPrefix(b, []byte(introductionMark)):
		return readBinaryIntroduction(r, b)
	case !bytes.HasPrefix(b, []byte("PROXY ")):
		return introduction{}, errNoIntroduction
	}
	for !bytes.HasSuffix(b, []byte("\n")) {
		if len(b) >= longestLine {
			return introduction{}, errors.New("a line of more than 107 bytes")
		}
		n := len(b)
		b = b[:n+least(b)]
		if _, err := io.ReadFull(r, b[n:]); err != nil {
			return introduction{}, err
		}
	}
	line, ok := strings.CutSuffix(string(b), "\r\n")
	if !ok {
		return introduction{}, errors.New("a line that does not end in CRLF")
	}
	return parseIntroduction(line)
}

// least is how many bytes of a line that has begun with b are still to come, at least.
func least(b []byte) int {
	if bytes.HasPrefix(b, []byte("PROXY UNKNOWN")) || bytes.HasSuffix(b, []byte("\r")) {
		return 1
	}
	missing := max(5-bytes.Count(b, []byte(" ")), 0)
	return min(2*missing+len("\r\n")-1, longestLine-len(b))
}

// parseIntroduction reads the line of version 1.
func parseIntroduction(line string) (in introduction, err error) {
	words := strings.Split(line, " ")
	if words[1] == "UNKNOWN" {
		return in, nil
	}
	if len(words) != 6 || words[1] != "TCP4" && words[1] != "TCP6" {
		return in, fmt.Errorf("%q; want PROXY, TCP4 or TCP6, two addresses and two ports", line)
	}
	for i, into := range []*netip.AddrPort{&in.client, &in.server} {
		a, err := netip.ParseAddr(words[2+i])
		if err != nil || a.Is4() != (words[1] == "TCP4") || a.Zone() != "" {
			return introduction{}, fmt.Errorf("%q is no address of %s", words[2+i], words[1])
		}
		port, err := strconv.ParseUint(words[4+i], 10, 16)
		if err != nil || strconv.FormatUint(port, 10) != words[4+i] {
			return introduction{}, fmt.Errorf("%q is no port", words[4+i])
		}
		*into = netip.AddrPortFrom(a.Unmap(), uint16(port))
	}
	return in, nil
}

// Families with their protocol, in version 2.
const (
	introducedTCP4 = 0x11
	introducedTCP6 = 0x21
)

// readBinaryIntroduction reads a header of version 2 that begins with b.
func readBinaryIntroduction(r io.Reader, b []byte) (introduction, error) {
	b = append(b, 0)
	if _, err := io.ReadFull(r, b[len(b)-1:]); err != nil {
		return introduction{}, err
	}
	version, command, family := b[12]>>4, b[12]&0xf, b[13]
	size := int(binary.BigEndian.Uint16(b[14:]))
	switch {
	case version != 2 || command > 1:
		return introduction{}, fmt.Errorf("version %d, command %d; want version 2 and a command known to it", version, command)
	case introductionHead+size > longestIntroduction:
		return introduction{}, fmt.Errorf("a header of %d bytes; want at most %d", introductionHead+size, longestIntroduction)
	}
	b = append(b, make([]byte, size)...)
	body := b[introductionHead:]
	if _, err := io.ReadFull(r, body); err != nil {
		return introduction{}, err
	}
	length := map[byte]int{introducedTCP4: 2 * (4 + 2), introducedTCP6: 2 * (16 + 2)}[family]
	if command == 0 || length == 0 { // a health check of what stands before weir, or a family without IP addresses
		return introduction{}, nil
	}
	if size < length {
		return introduction{}, fmt.Errorf("%d bytes of addresses; want %d", size, length)
	}
	if err := checkExtensions(b, introductionHead+length); err != nil {
		return introduction{}, err
	}
	n := (length - 4) / 2
	client, _ := netip.AddrFromSlice(body[:n])
	server, _ := netip.AddrFromSlice(body[n : 2*n])
	ports := body[2*n:]
	return introduction{
		netip.AddrPortFrom(client.Unmap(), binary.BigEndian.Uint16(ports)), netip.AddrPortFrom(server.Unmap(), binary.BigEndian.Uint16(ports[2:])),
	}, nil
}

// checkExtensions checks the extensions b[at:] of the header b, and its sum where they have one.
func checkExtensions(b []byte, at int) error {
	const head, sum = 3, 0x03
	for at < len(b) {
		if len(b)-at < head {
			return errors.New("an extension that is cut off")
		}
		kind, size := b[at], int(binary.BigEndian.Uint16(b[at+1:]))
		if at += head; size > len(b)-at {
			return errors.New("an extension that is cut off")
		}
		if kind == sum {
			if size != 4 {
				return errors.New("a checksum that is not of 4 bytes")
			}
			want := binary.BigEndian.Uint32(b[at:])
			clear(b[at : at+4])
			if crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)) != want {
				return errors.New("a wrong checksum")
			}
		}
		at += size
	}
	return nil
}
