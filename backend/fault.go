package backend

import (
	"fmt"
	"math"
	"strconv"
	"time"

	"github.com/valyala/fasthttp"
)

// fault is a request that gets no answer but an error. Its kind is the label error_type of
// ml_errors_total.
type fault struct {
	status  int
	kind    faultKind
	message string
	// retry is when a client of a busy server may try again.
	retry time.Duration
}

// statusCanceled is the status of a fault that nobody is told: the client has gone.
const statusCanceled = 499

type faultKind uint8

const (
	// faultNone is not counted: an unknown path says nothing about the models.
	faultNone faultKind = iota
	// faultRequest is a request that the model's published contract does not allow.
	faultRequest
	// faultUnknownModel names a model or version that is not served.
	faultUnknownModel
	// faultNotReady came before the models were loaded.
	faultNotReady
	// faultOverload found the queue full.
	faultOverload
	// faultCanceled was given up by its client while it waited or ran.
	faultCanceled
	// faultDeadline could not be answered in the time that its client gave it.
	faultDeadline
	// faultModel is a valid request that the model failed on.
	faultModel
	// faultPanic is a mistake in this program.
	faultPanic
)

func faultKinds() []faultKind {
	return []faultKind{faultRequest, faultUnknownModel, faultNotReady, faultOverload, faultCanceled, faultDeadline, faultModel, faultPanic}
}

func (k faultKind) String() string {
	switch k {
	case faultRequest:
		return "invalid_request"
	case faultUnknownModel:
		return "unknown_model"
	case faultNotReady:
		return "not_ready"
	case faultOverload:
		return "overload"
	case faultCanceled:
		return "canceled"
	case faultDeadline:
		return "deadline"
	case faultModel:
		return "model"
	case faultPanic:
		return "panic"
	}
	return "none"
}

func (f *fault) Error() string { return f.message }

// retryAfter is the value of the header field Retry-After: whole seconds, from 1 to 60.
func (f *fault) retryAfter() string {
	return strconv.Itoa(int(math.Ceil(min(max(f.retry.Seconds(), 1), 60))))
}

// server says whether the fault is this server's and not the client's.
func (f *fault) server() bool { return f.status >= 500 }

func badRequest(format string, args ...any) *fault {
	return &fault{status: fasthttp.StatusBadRequest, kind: faultRequest, message: fmt.Sprintf(format, args...)}
}

// badInput is a request that does not fit the model m; it ends with what m wants.
func badInput(m *Model, err error) *fault {
	return badRequest("%v; %s", err, m.wants())
}
