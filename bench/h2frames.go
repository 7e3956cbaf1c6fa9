package bench

import (
	"fmt"

	"golang.org/x/net/http2"

	"weir/bench/frame"
)

// take takes one frame in. c.mu is held.
func (c *h2conn) take(f frame.Frame) error {
	if (f.Type == http2.FrameContinuation) != (c.block != nil) {
		return fmt.Errorf("%w: %v between HEADERS and their CONTINUATION, or CONTINUATION without them", errProtocol, f.Type)
	}
	if !c.greeted && f.Type != http2.FrameSettings {
		return fmt.Errorf("%w: %v before SETTINGS", errProtocol, f.Type)
	}
	switch f.Type {
	case http2.FrameData:
		return c.data(f)
	case http2.FrameHeaders:
		content, err := f.Content()
		if err != nil {
			return err
		}
		if f.Flags&http2.FlagHeadersEndHeaders == 0 {
			c.blockOf, c.block = f, append(make([]byte, 0, 2*len(content)), content...)
			return nil
		}
		return c.headers(f, content)
	case http2.FrameContinuation:
		if c.block = append(c.block, f.Payload...); len(c.block) > maxHead {
			return fmt.Errorf("%w: a head of more than %d bytes", errProtocol, maxHead)
		}
		if f.Flags&http2.FlagContinuationEndHeaders == 0 {
			return nil
		}
		block := c.block
		c.block = nil
		return c.headers(c.blockOf, block)
	case http2.FrameRSTStream:
		return c.reset(f)
	case http2.FrameSettings:
		return c.settings(f)
	case http2.FramePing:
		if f.Flags&http2.FlagPingAck == 0 {
			c.out = frame.Append(c.out, http2.FramePing, http2.FlagPingAck, 0, f.Payload)
		}
	case http2.FrameGoAway:
		return c.goAway(f)
	case http2.FrameWindowUpdate:
		return c.windowUpdate(f)
	case http2.FramePushPromise:
		return fmt.Errorf("%w: PUSH_PROMISE, which was refused", errProtocol)
	}
	return nil
}

func (c *h2conn) data(f frame.Frame) error {
	content, err := f.Content()
	if err != nil {
		return err
	}
	if c.unseen += uint32(len(f.Payload)); c.unseen >= h2Replenish {
		c.out = frame.AppendNumber(c.out, http2.FrameWindowUpdate, 0, c.unseen)
		c.unseen = 0
	}
	s := c.streams[f.Stream]
	if s == nil {
		return nil // given up
	}
	s.response.Bytes += int64(frame.HeaderLen + len(f.Payload))
	if err := s.data(content); err != nil {
		c.refuse(s, err)
		return nil
	}
	if s.unseen += uint32(len(f.Payload)); s.unseen >= h2Replenish && !f.Ends() {
		c.out = frame.AppendNumber(c.out, http2.FrameWindowUpdate, s.id, s.unseen)
		s.unseen = 0
	}
	if f.Ends() {
		c.complete(s)
	}
	return nil
}

// headers takes a block of fields: a head, an interim one, or trailers.
func (c *h2conn) headers(f frame.Frame, block []byte) error {
	s := c.streams[f.Stream]
	c.decoding = s
	if s != nil {
		s.response.Bytes += int64(frame.HeaderLen + len(f.Payload))
		s.begin()
	}
	// The fields of streams that are gone change the table, too.
	if _, err := c.dec.Write(block); err != nil {
		return fmt.Errorf("%w: %w", errProtocol, err)
	}
	if err := c.dec.Close(); err != nil {
		return fmt.Errorf("%w: %w", errProtocol, err)
	}
	if s == nil {
		return nil
	}
	if err := s.headers(f.Ends()); err != nil {
		c.refuse(s, err)
	} else if f.Ends() {
		c.complete(s)
	}
	return nil
}

// complete ends a stream whose answer is there.
func (c *h2conn) complete(s *stream) {
	err := s.check()
	if !s.sent {
		// The server answered without wanting the rest of the request.
		c.out = frame.AppendNumber(c.out, http2.FrameRSTStream, s.id, uint32(http2.ErrCodeNo))
	}
	c.end(s, err)
}

// refuse ends a stream whose answer is invalid.
func (c *h2conn) refuse(s *stream, err error) {
	c.out = frame.AppendNumber(c.out, http2.FrameRSTStream, s.id, uint32(http2.ErrCodeProtocol))
	c.end(s, err)
}

func (c *h2conn) reset(f frame.Frame) error {
	code, err := f.Uint32()
	if err != nil {
		return err
	}
	if s := c.streams[f.Stream]; s != nil {
		c.end(s, fmt.Errorf("RST_STREAM %v", http2.ErrCode(code)))
	}
	return nil
}

func (c *h2conn) settings(f frame.Frame) error {
	if f.Flags&http2.FlagSettingsAck != 0 {
		return nil
	}
	c.greeted = true
	err := f.Settings(func(id http2.SettingID, value uint32) error {
		switch id {
		case http2.SettingHeaderTableSize:
			c.fields.limitTable(min(value, 4096))
		case http2.SettingMaxConcurrentStreams:
			c.most = value
		case http2.SettingInitialWindowSize:
			if value > frame.MaxWindow {
				return fmt.Errorf("%w: INITIAL_WINDOW_SIZE %d", errProtocol, value)
			}
			for _, s := range c.streams {
				s.window += int64(value) - c.initial
				s.wake()
			}
			c.initial = int64(value)
		}
		return nil
	})
	c.out = frame.Append(c.out, http2.FrameSettings, http2.FlagSettingsAck, 0, nil)
	return err
}

// goAway ends the streams that the server says it did not take.
func (c *h2conn) goAway(f frame.Frame) error {
	last, err := f.Uint32()
	if err != nil {
		return err
	}
	c.leaving = true
	for id, s := range c.streams {
		if id > last {
			c.end(s, errNotSent)
		}
	}
	return nil
}

func (c *h2conn) windowUpdate(f frame.Frame) error {
	n, err := f.Uint32()
	if err != nil {
		return err
	}
	n &= frame.MaxWindow
	if f.Stream == 0 {
		c.window += int64(n)
		for _, s := range c.streams {
			s.wake()
		}
	} else if s := c.streams[f.Stream]; s != nil {
		s.window += int64(n)
		s.wake()
	}
	return nil
}
