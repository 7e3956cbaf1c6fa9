// Package frame reads and writes the frames of HTTP/2 (RFC 9113, section 4) in buffers, for the load
// generator and the endpoint, which share a processor and must cost little.
package frame

import (
	"encoding/binary"
	"errors"
	"fmt"

	"golang.org/x/net/http2"
)

const (
	// HeaderLen is the length of a frame's header.
	HeaderLen = 9
	// MaxPayload is how long the payload of a frame may be that is taken here: what SETTINGS begin with.
	MaxPayload = 16384
	// InitialWindow is how many bytes of DATA may be sent before SETTINGS or WINDOW_UPDATE allow more.
	InitialWindow = 65535
	// MaxWindow is the largest window.
	MaxWindow = 1<<31 - 1
)

// ErrFrame is wrapped by all complaints about frames.
var ErrFrame = errors.New("not valid HTTP/2")

// Frame is a frame that was read. Payload is part of the buffer that it was read from.
type Frame struct {
	Type    http2.FrameType
	Flags   http2.Flags
	Stream  uint32
	Payload []byte
}

// Next returns the first frame in b and its length; 0 while it is incomplete.
func Next(b []byte) (f Frame, n int, err error) {
	if len(b) < HeaderLen {
		return f, 0, nil
	}
	length := int(b[0])<<16 | int(b[1])<<8 | int(b[2])
	if length > MaxPayload {
		return f, 0, fmt.Errorf("%w: a frame of %d bytes, of %d at most", ErrFrame, length, MaxPayload)
	}
	if len(b) < HeaderLen+length {
		return f, 0, nil
	}
	f = Frame{
		Type: http2.FrameType(b[3]), Flags: http2.Flags(b[4]), Stream: binary.BigEndian.Uint32(b[5:]) & MaxWindow,
		Payload: b[HeaderLen : HeaderLen+length],
	}
	return f, HeaderLen + length, nil
}

// Ends reports whether a frame of HEADERS or DATA is the last of its side of the stream.
func (f *Frame) Ends() bool { return f.Flags&http2.FlagDataEndStream != 0 }

// Content returns the payload of HEADERS or DATA without padding and priority.
func (f *Frame) Content() ([]byte, error) {
	p, padding := f.Payload, 0
	if f.Flags&http2.FlagDataPadded != 0 {
		if len(p) == 0 {
			return nil, fmt.Errorf("%w: padding without its length", ErrFrame)
		}
		p, padding = p[1:], int(p[0])
	}
	if f.Type == http2.FrameHeaders && f.Flags&http2.FlagHeadersPriority != 0 {
		if len(p) < 5 {
			return nil, fmt.Errorf("%w: priority of %d bytes", ErrFrame, len(p))
		}
		p = p[5:]
	}
	if padding > len(p) {
		return nil, fmt.Errorf("%w: more padding than frame", ErrFrame)
	}
	return p[:len(p)-padding], nil
}

// Uint32 returns the number that the payload of WINDOW_UPDATE and RST_STREAM is, and that of GOAWAY begins with.
func (f *Frame) Uint32() (uint32, error) {
	if len(f.Payload) < 4 {
		return 0, fmt.Errorf("%w: %v of %d bytes", ErrFrame, f.Type, len(f.Payload))
	}
	return binary.BigEndian.Uint32(f.Payload), nil
}

// Settings calls set for each setting in the payload.
func (f *Frame) Settings(set func(id http2.SettingID, value uint32) error) error {
	p := f.Payload
	if len(p)%6 != 0 {
		return fmt.Errorf("%w: SETTINGS of %d bytes", ErrFrame, len(p))
	}
	for ; len(p) > 0; p = p[6:] {
		if err := set(http2.SettingID(binary.BigEndian.Uint16(p)), binary.BigEndian.Uint32(p[2:])); err != nil {
			return err
		}
	}
	return nil
}

// AppendHeader appends the header of a frame.
func AppendHeader(b []byte, length int, kind http2.FrameType, flags http2.Flags, stream uint32) []byte {
	b = append(b, byte(length>>16), byte(length>>8), byte(length), byte(kind), byte(flags))
	return binary.BigEndian.AppendUint32(b, stream)
}

// Append appends a frame.
func Append(b []byte, kind http2.FrameType, flags http2.Flags, stream uint32, payload []byte) []byte {
	return append(AppendHeader(b, len(payload), kind, flags, stream), payload...)
}

// AppendHeaders appends a block of fields as HEADERS and, where it is longer than a frame, CONTINUATION.
func AppendHeaders(b []byte, stream uint32, block []byte, end bool) []byte {
	kind, flags := http2.FrameHeaders, http2.Flags(0)
	if end {
		flags = http2.FlagHeadersEndStream
	}
	for len(block) > MaxPayload {
		b = Append(b, kind, flags, stream, block[:MaxPayload])
		kind, flags, block = http2.FrameContinuation, 0, block[MaxPayload:]
	}
	return Append(b, kind, flags|http2.FlagHeadersEndHeaders, stream, block)
}

// AppendNumber appends a frame whose payload is a number: WINDOW_UPDATE or RST_STREAM.
func AppendNumber(b []byte, kind http2.FrameType, stream, number uint32) []byte {
	return binary.BigEndian.AppendUint32(AppendHeader(b, 4, kind, 0, stream), number)
}

// AppendSettings appends SETTINGS.
func AppendSettings(b []byte, settings ...http2.Setting) []byte {
	b = AppendHeader(b, 6*len(settings), http2.FrameSettings, 0, 0)
	for _, s := range settings {
		b = binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint16(b, uint16(s.ID)), s.Val)
	}
	return b
}
