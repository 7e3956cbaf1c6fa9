package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
)

// Failure says why a request got no usable answer. An answer with a status of 400 or more is
// an error too, counted by its status.
type Failure uint8

// The kinds of failure, in the order they are reported.
const (
	None       Failure = iota
	Connect            // no connection could be made
	Timeout            // no whole answer within the timeout
	Reset              // the connection ended before the whole answer
	Protocol           // the answer was not valid HTTP, or more than an answer came
	BadAnswer          // status below 400, but the body was not what the target promised
	Unfinished         // still running when the attack was interrupted; not an error
	failures
)

// String returns the name used in reports.
func (f Failure) String() string {
	switch f {
	case None:
		return "none"
	case Connect:
		return "connect"
	case Timeout:
		return "timeout"
	case Reset:
		return "reset"
	case Protocol:
		return "protocol"
	case BadAnswer:
		return "bad_answer"
	case Unfinished:
		return "unfinished"
	}
	return fmt.Sprintf("failure(%d)", uint8(f))
}

// errProtocol is wrapped by every complaint about what a server sent.
var errProtocol = errors.New("not a valid HTTP answer")

// dialFailure names the failure behind an error of dialing.
func dialFailure(err error) Failure {
	if errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, context.DeadlineExceeded) {
		return Timeout
	}
	return Connect
}

// exchangeFailure names the failure behind an error on an established connection; None for nil.
func exchangeFailure(err error) Failure {
	switch {
	case err == nil:
		return None
	case errors.Is(err, os.ErrDeadlineExceeded):
		return Timeout
	case errors.Is(err, errProtocol):
		return Protocol
	}
	return Reset
}
