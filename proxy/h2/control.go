package h2

import (
	"encoding/binary"
	"fmt"
)

// The settings (RFC 9113, 6.5.2).
const (
	settingTableSize uint32 = iota + 1
	settingEnablePush
	settingMaxStreams
	settingWindow
	settingMaxFrame
	settingMaxHeader
)

func (c *Conn) receiveSettings(h frameHeader, p []byte) {
	if h.has(flagAck) {
		switch {
		case len(p) != 0:
			c.fail(FrameSizeError, "a SETTINGS acknowledgement that is not empty")
		case c.acked:
			c.spend(costSettings)
		default:
			c.acknowledged()
		}
		return
	}
	if len(p)%6 != 0 {
		c.fail(FrameSizeError, fmt.Sprintf("SETTINGS of %d bytes, each takes 6", len(p)))
		return
	}
	if c.greeted {
		c.spend(costSettings)
	}
	c.greeted = true
	window := c.peerWindow
	for ; len(p) > 0 && c.err == nil; p = p[6:] {
		c.setting(uint32(binary.BigEndian.Uint16(p)), binary.BigEndian.Uint32(p[2:]), &window)
	}
	if c.err == nil {
		c.changeWindows(window)
	}
	if c.err == nil {
		o := c.queue()
		o.b = appendFrameHeader(o.b, 0, frameSettings, flagAck, 0)
	}
}

// acknowledged: the peer uses our settings. A smaller window than the one of the RFC is in force only now.
func (c *Conn) acknowledged() {
	c.acked = true
	for _, s := range c.streams {
		s.recv += min(int64(c.local.Window)-defaultWindow, 0)
	}
}

// firstWindow is what the peer may send on a new stream.
func (c *Conn) firstWindow() int64 {
	if c.acked {
		return int64(c.local.Window)
	}
	return max(int64(c.local.Window), defaultWindow)
}

func (c *Conn) setting(id, value uint32, window *int64) {
	switch id {
	case settingTableSize:
		if c.enc == nil {
			c.enc = newEncoder()
		}
		c.enc.resize(int(min(value, defaultTableSize)))
	case settingEnablePush:
		if value > 1 || value == 1 && !c.server {
			c.fail(ProtocolError, fmt.Sprintf("SETTINGS_ENABLE_PUSH is %d", value))
		}
	case settingMaxStreams:
		c.peerMax = value
	case settingWindow:
		if value > maxWindow {
			c.fail(FlowControlError, fmt.Sprintf("SETTINGS_INITIAL_WINDOW_SIZE is %d, more than 2^31-1", value))
		}
		*window = int64(value)
	case settingMaxFrame:
		if value < defaultMaxFrame || value > 1<<24-1 {
			c.fail(ProtocolError, fmt.Sprintf("SETTINGS_MAX_FRAME_SIZE is %d, not 16384 to 16777215", value))
		}
	}
}

// changeWindows puts the peer's initial window in force, for open streams too: theirs may become negative.
func (c *Conn) changeWindows(window int64) {
	change := window - c.peerWindow
	c.peerWindow = window
	if change == 0 {
		return
	}
	for _, s := range c.streams {
		if s.send += change; s.send > maxWindow {
			c.fail(FlowControlError, fmt.Sprintf("SETTINGS_INITIAL_WINDOW_SIZE of %d makes a window larger than 2^31-1", window))
			return
		}
		s.opened()
	}
	for _, s := range c.fresh {
		s.send = window
	}
}

func (c *Conn) receivePing(h frameHeader, p []byte) {
	if len(p) != 8 {
		c.fail(FrameSizeError, fmt.Sprintf("a PING of %d bytes, it has 8", len(p)))
		return
	}
	payload := binary.BigEndian.Uint64(p)
	if !h.has(flagAck) {
		c.sendPing(flagAck, payload)
		c.spend(costFrame)
		return
	}
	switch {
	case payload == pingLiveness && c.pingPending:
		c.pingPending = false
	case payload == pingShutdown && c.draining && !c.toldLast:
		c.toldLast = true
		c.sendGoAway(c.served, NoError, "")
	default:
		c.spend(costFrame)
	}
}

func (c *Conn) receiveGoAway(p []byte) {
	if len(p) < 8 {
		c.fail(FrameSizeError, fmt.Sprintf("GOAWAY of %d bytes, it has at least 8", len(p)))
		return
	}
	c.spend(costFrame)
	c.peerAway = true
	if c.server {
		return
	}
	last, code := binary.BigEndian.Uint32(p)&maxStreamID, Code(binary.BigEndian.Uint32(p[4:]))
	lost := append(c.sorted(func(s *Stream) bool { return s.ID > last }), c.fresh...)
	for _, s := range lost {
		if s.open {
			c.drop(s, resetHere)
			c.events.Closed(s, code, true)
		}
	}
}

func (c *Conn) receiveWindowUpdate(h frameHeader, p []byte) {
	if len(p) != 4 {
		c.fail(FrameSizeError, fmt.Sprintf("a WINDOW_UPDATE of %d bytes, it has 4", len(p)))
		return
	}
	c.spend(costFrame)
	n := int64(binary.BigEndian.Uint32(p) & maxWindow)
	if h.id == 0 {
		if c.send += n; n == 0 {
			c.fail(ProtocolError, "a WINDOW_UPDATE of 0")
		} else if c.send > maxWindow {
			c.fail(FlowControlError, "a WINDOW_UPDATE makes the connection's window larger than 2^31-1")
		}
		return
	}
	if c.idle(h.id) {
		c.fail(ProtocolError, fmt.Sprintf("WINDOW_UPDATE on stream %d, which nobody opened", h.id))
		return
	}
	s := c.streams[h.id]
	switch {
	case s == nil:
	case n == 0:
		c.streamError(s, ProtocolError, "a WINDOW_UPDATE of 0")
	case s.send+n > maxWindow:
		c.streamError(s, FlowControlError, "a WINDOW_UPDATE makes the stream's window larger than 2^31-1")
	default:
		s.send += n
		s.opened()
	}
}

// receivePriority ignores the priority, but not what is wrong with the frame.
func (c *Conn) receivePriority(h frameHeader, p []byte) {
	c.spend(costFrame)
	code, reason := NoError, ""
	if len(p) != 5 {
		code, reason = FrameSizeError, fmt.Sprintf("PRIORITY of %d bytes, it has 5", len(p))
	} else if binary.BigEndian.Uint32(p)&maxStreamID == h.id {
		code, reason = ProtocolError, "a stream that depends on itself"
	}
	switch s := c.streams[h.id]; {
	case code == NoError:
	case s != nil:
		c.streamError(s, code, reason)
	default:
		c.fail(code, reason)
	}
}

func (c *Conn) receiveReset(h frameHeader, p []byte) {
	if len(p) != 4 {
		c.fail(FrameSizeError, fmt.Sprintf("RST_STREAM of %d bytes, it has 4", len(p)))
		return
	}
	if c.idle(h.id) {
		c.fail(ProtocolError, fmt.Sprintf("RST_STREAM on stream %d, which nobody opened", h.id))
		return
	}
	s := c.streams[h.id]
	if s == nil {
		c.spend(costFrame)
		return
	}
	if c.server && !s.answered {
		c.spend(costReset)
	}
	code := Code(binary.BigEndian.Uint32(p))
	c.drop(s, resetByPeer)
	c.events.Closed(s, code, code == RefusedStream)
}
