package h2

import "encoding/binary"

// The frames (RFC 9113, 6).
const (
	frameData uint8 = iota
	frameHeaders
	framePriority
	frameReset
	frameSettings
	framePushPromise
	framePing
	frameGoAway
	frameWindowUpdate
	frameContinuation
)

const (
	flagAck        = 0x1
	flagEndStream  = 0x1
	flagEndHeaders = 0x4
	flagPadded     = 0x8
	flagPriority   = 0x20
)

// frameHeader is the head of a frame.
type frameHeader struct {
	length int
	kind   uint8
	flags  uint8
	id     uint32
}

const frameHeaderLen = 9

func (h frameHeader) has(flag uint8) bool { return h.flags&flag != 0 }

func parseFrameHeader(b []byte) frameHeader {
	return frameHeader{
		length: int(b[0])<<16 | int(b[1])<<8 | int(b[2]),
		kind:   b[3],
		flags:  b[4],
		id:     binary.BigEndian.Uint32(b[5:]) & maxStreamID,
	}
}

func appendFrameHeader(b []byte, length int, kind, flags uint8, id uint32) []byte {
	b = append(b, byte(length>>16), byte(length>>8), byte(length), kind, flags)
	return binary.BigEndian.AppendUint32(b, id)
}

// queue is where frames are appended to be sent.
func (c *Conn) queue() *buffer {
	if c.out == nil {
		c.out = newBuffer()
	}
	return c.out
}

// unsent is how many bytes are pending.
func (c *Conn) unsent() int {
	if c.out == nil {
		return 0
	}
	return len(c.out.b) - c.out.from
}

func (c *Conn) sendReset(id uint32, code Code) {
	o := c.queue()
	o.b = binary.BigEndian.AppendUint32(appendFrameHeader(o.b, 4, frameReset, 0, id), uint32(code))
}

func (c *Conn) sendWindowUpdate(id uint32, n int32) {
	o := c.queue()
	o.b = binary.BigEndian.AppendUint32(appendFrameHeader(o.b, 4, frameWindowUpdate, 0, id), uint32(n))
}

func (c *Conn) sendPing(flags uint8, payload uint64) {
	o := c.queue()
	o.b = binary.BigEndian.AppendUint64(appendFrameHeader(o.b, 8, framePing, flags, 0), payload)
}

func (c *Conn) sendGoAway(last uint32, code Code, reason string) {
	o := c.queue()
	o.b = appendFrameHeader(o.b, 8+len(reason), frameGoAway, 0, 0)
	o.b = binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(o.b, last), uint32(code))
	o.b = append(o.b, reason...)
}

// sendSettings sends this side's settings: pairs of identifier and value.
func (c *Conn) sendSettings(pairs ...uint32) {
	o := c.queue()
	o.b = appendFrameHeader(o.b, len(pairs)/2*6, frameSettings, 0, 0)
	for i := 0; i < len(pairs); i += 2 {
		o.b = binary.BigEndian.AppendUint16(o.b, uint16(pairs[i]))
		o.b = binary.BigEndian.AppendUint32(o.b, pairs[i+1])
	}
}
