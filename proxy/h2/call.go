package h2

import (
	"errors"
	"fmt"
)

// Call is a request over a stream of a client's, and its answer, both as the text of HTTP/1.1. Like all here it does
// no I/O and does not wait: its owner passes the events of the stream on to it and tries again after them.
//
// The zero value is ready for Begin. What it holds of an answer is bounded by the stream's window.
type Call struct {
	outgoing
	incoming
	head     bool // the request's method is HEAD
	answered bool // the final head has come
}

// ErrUnprocessed says that the peer has not acted upon a request: it may be sent again whatever it is.
var ErrUnprocessed = errors.New("the peer refused the stream before it acted upon it")

// ErrOver is what Write says of a stream whose answer was whole before the request was.
var ErrOver = errors.New("the peer has ended the stream")

// CallError is how a stream ended before its answer was whole.
type CallError struct {
	Code  Code
	Fault string // what was wrong with what the peer sent; "": nothing, it or the connection ended the stream
}

func (e *CallError) Error() string {
	if e.Fault != "" {
		return e.Fault
	}
	return "the stream ended with " + e.Code.String()
}

// maxUnreadText is how much an answer may have of heads that nobody has read yet, in bytes.
const maxUnreadText = 256 << 10

// Begin makes c the call of s. Its memory is that of the call before.
func (c *Call) Begin(s *Stream) {
	c.End()
	*c = Call{outgoing: c.outgoing.again(), incoming: c.incoming.again(s)}
}

// End gives the stream back, and resets it where it has not ended.
func (c *Call) End() { c.incoming.end() }

// Stream is the call's; nil before Begin and after End.
func (c *Call) Stream() *Stream { return c.stream }

// Answering reports whether the final head of the answer has come, or why none will come.
func (c *Call) Answering() bool { return c.answered || c.err != nil }

// Whole reports whether all of the answer has come.
func (c *Call) Whole() bool { return c.ended && c.err == nil }

// Headers takes Events.Headers of the stream.
func (c *Call) Headers(fields []Field, end bool) {
	var err error
	switch {
	case c.answered && c.chunked:
		c.trailers, err = AppendTrailers(c.trailers, fields)
	case c.answered: // there is no place for trailers
	default:
		err = c.takeHead(fields, end)
	}
	switch {
	case err != nil:
		c.fault(err.Error())
	case end:
		c.ended = true
	}
}

func (c *Call) takeHead(fields []Field, end bool) error {
	if len(c.text)-c.textAt > maxUnreadText {
		return fmt.Errorf("more than %d bytes of interim answers that nobody reads", maxUnreadText)
	}
	b, body, err := AppendResponse(c.text, fields, end, c.head)
	if err != nil {
		return err
	}
	c.text = b
	if fields[0].Value[0] == '1' {
		return nil
	}
	c.answered = true
	c.frame(body)
	return nil
}

// fault resets the stream because of what the peer sent.
func (c *Call) fault(what string) {
	c.stream.Reset(ProtocolError)
	c.ended, c.err = true, &CallError{ProtocolError, what}
}

// Data takes Events.Data of the stream.
func (c *Call) Data(p []byte, end bool) {
	c.data.write(p)
	c.ended = c.ended || end
}

// Closed takes Events.Closed of the stream. The end of a stream whose answer is whole says no more than that the
// rest of the request is not wanted.
func (c *Call) Closed(code Code, unprocessed bool) {
	if c.ended {
		return
	}
	c.ended = true
	if c.err = error(&CallError{code, c.stream.Fault}); unprocessed {
		c.err = ErrUnprocessed
	}
}

// Fail ends the call for a reason that the stream does not know: what is read of it ends with err.
func (c *Call) Fail(err error) {
	if !c.ended {
		c.ended, c.err = true, err
	}
}

// Err is why the answer is not whole; nil where it is, or may still be.
func (c *Call) Err() error { return c.err }
