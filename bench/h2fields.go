package bench

import (
	"bytes"
	"fmt"
	"strings"

	"golang.org/x/net/http2/hpack"

	"weir/bench/frame"
)

// fieldEncoder turns the head of a request, as a [Target] writes it, into a block of fields (RFC 9113,
// section 8.3). A head that is the same again and again costs next to nothing.
type fieldEncoder struct {
	enc     *hpack.Encoder
	block   bytes.Buffer
	head    []byte                       // that block is of
	settled bool                         // encoded again, head gives block again
	lines   map[string]hpack.HeaderField // that were seen
	scheme  string
}

// maxLines is how many lines of heads are remembered.
const maxLines = 1000

func newFieldEncoder(scheme string) *fieldEncoder {
	e := &fieldEncoder{lines: map[string]hpack.HeaderField{}, scheme: scheme}
	e.enc = hpack.NewEncoder(&e.block)
	return e
}

// limitTable keeps the table of fields within what the peer wants to hold.
func (e *fieldEncoder) limitTable(size uint32) {
	e.enc.SetMaxDynamicTableSize(size)
	e.settled, e.head = false, nil
}

// encode returns the block of a head: lines ended by CRLF, without the empty line. It is valid until
// the next one.
func (e *fieldEncoder) encode(head []byte) ([]byte, error) {
	if e.settled && bytes.Equal(head, e.head) {
		return e.block.Bytes(), nil
	}
	e.block.Reset()
	line, fields, _ := bytes.Cut(head, crlf)
	method, rest, _ := bytes.Cut(line, []byte(" "))
	path, ok := bytes.CutSuffix(rest, []byte(" HTTP/1.1"))
	if !ok {
		return nil, fmt.Errorf("request line %.60q", line)
	}
	// A bytes.Buffer does not fail, and so the encoder does not.
	_ = e.enc.WriteField(hpack.HeaderField{Name: ":method", Value: string(method)})
	_ = e.enc.WriteField(hpack.HeaderField{Name: ":scheme", Value: e.scheme})
	_ = e.enc.WriteField(hpack.HeaderField{Name: ":path", Value: string(path)})
	for _, pseudo := range []bool{true, false} { // pseudo-fields stand before the others
		for rest := fields; len(rest) > 0; {
			line, rest, _ = bytes.Cut(rest, crlf)
			f := e.field(line)
			if f.Name != "" && f.IsPseudo() == pseudo {
				_ = e.enc.WriteField(f)
			}
		}
	}
	e.settled = frame.Stable(e.block.Bytes())
	e.head = append(e.head[:0], head...)
	return e.block.Bytes(), nil
}

// field returns a line as HTTP/2 has it; without a name when it has no such field.
func (e *fieldEncoder) field(line []byte) hpack.HeaderField {
	f, known := e.lines[string(line)]
	if known {
		return f
	}
	name, value, _ := strings.Cut(string(line), ":")
	f = hpack.HeaderField{Name: strings.ToLower(name), Value: strings.TrimSpace(value)}
	switch f.Name {
	case "host":
		f.Name = ":authority"
	case "connection", "keep-alive", "proxy-connection", "upgrade": // of HTTP/1.1 (RFC 9113, section 8.2.2)
		f.Name = ""
	}
	if len(e.lines) < maxLines {
		e.lines[string(line)] = f
	}
	return f
}
