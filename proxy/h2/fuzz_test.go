package h2

import (
	"bytes"
	"io"
	"testing"

	"golang.org/x/net/http2"
)

// FuzzReceive: whatever a peer sends, in whatever pieces, a Conn sends frames that can be read, holds no more than it
// may, and ends all of its streams when it is over.
func FuzzReceive(f *testing.F) {
	f.Add([]byte("\x00\x00\x00\x04\x00\x00\x00\x00\x00"), true, uint8(3))
	f.Add(fuzzSeed(f), true, uint8(20))
	f.Add(fuzzSeed(f), false, uint8(0))
	f.Fuzz(func(t *testing.T, b []byte, server bool, piece uint8) {
		e := &echo{}
		var c *Conn
		if server {
			c = NewServer(Settings{MaxStreams: 5, MaxHeader: 500}, e)
			b = append([]byte(Preface), b...)
		} else {
			c = NewClient(Settings{MaxHeader: 500}, e)
			for range 3 {
				s := c.Open()
				s.User = &echoed{rest: make([]byte, 100_000), end: true}
				s.WriteHeaders([]Field{{Name: ":method", Value: "POST"}}, false)
				e.Writable(s)
			}
		}
		var sent bytes.Buffer
		var err error
		for len(b) > 0 && err == nil {
			n := min(len(b), int(piece)+1)
			err = c.Receive(b[:n:n])
			b = b[n:]
			if piece%2 == 0 {
				sent.Write(c.Pending())
				c.Sent(len(c.Pending()))
			}
		}
		if n := len(c.Pending()); n > maxUnread+2*maxPending {
			t.Fatalf("%d bytes are pending", n)
		}
		sent.Write(c.Pending())
		c.Close(Cancel)
		if c.Streams() != 0 || len(c.streams)+len(c.fresh) != 0 || c.in != nil || c.block.fields != nil && c.block.id == 0 {
			t.Fatalf("%d streams are left", c.Streams())
		}
		if !server {
			sent.Next(len(Preface))
		}
		fr := http2.NewFramer(io.Discard, &sent)
		for {
			if _, err := fr.ReadFrame(); err == io.EOF {
				return
			} else if err != nil {
				t.Fatalf("sent what cannot be read: %v", err)
			}
		}
	})
}

func fuzzSeed(f *testing.F) []byte {
	r := newRig(&testing.T{}, true, Settings{})
	r.in.Reset()
	r.must(r.WriteSettings(), r.WriteSettingsAck())
	opens(1, false, "content-length: 5")(r)
	r.must(r.WriteDataPadded(1, false, []byte("hel"), make([]byte, 5)), r.WriteData(1, true, []byte("lo")))
	r.head(3, false, ":status: 200")
	r.head(3, true, "grpc-status: 0")
	r.must(r.WriteWindowUpdate(1, 9), r.WritePing(false, [8]byte{}), r.WriteRSTStream(3, 8), r.WriteGoAway(9, 0, nil))
	return bytes.Clone(r.in.Bytes())
}
