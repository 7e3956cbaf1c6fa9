package proxy

import (
	"strconv"
	"sync/atomic"
	"time"

	"weir/balancer"
	"weir/proxy/grpc"
)

// A call of gRPC is a POST like any other. How it ended is no status of HTTP, which is 200: it stands in grpc-status,
// behind the body, or in the head of an answer that has none.

// call is what the endpoint's answer to a call says.
type call struct {
	status grpc.Code
	told   bool // the status was: else it is what clients make of its absence
}

// callCounts counts calls by their status.
type callCounts [grpc.Codes]atomic.Uint64

// isCall reports whether the request is a call of gRPC.
func (r *request) isCall() bool { return r.fields.grpc && methods[r.method] == "POST" }

// hear notes what the head of an answer says, which stands at the beginning of b.
func (r *request) hear(p *response, b []byte) {
	r.status, r.call = p.status, call{}
	if v := p.fields.grpcStatus.in(b); len(v) > 0 && r.isCall() {
		r.call = call{grpc.Parse(v), true}
	}
}

// hearTrailers is hear for what stands behind the body.
func (r *request) hearTrailers(lines []byte) {
	if !r.isCall() {
		return
	}
	if v := lookup(lines, "grpc-status"); v != nil {
		r.call = call{grpc.Parse(v), true}
	}
}

// answerStatus is the status of a call that an endpoint has answered.
func (r *request) answerStatus() grpc.Code {
	switch {
	case r.status != 200:
		return grpc.FromHTTP(r.status)
	case !r.call.told:
		return grpc.Unknown
	}
	return r.call.status
}

// callStatus is what the client takes the call to have ended with.
func (r *request) callStatus() grpc.Code {
	if r.kind != success {
		return r.kind.failure().call
	}
	return r.answerStatus()
}

// failed reports whether the request counts as an error of its variant.
func (r *request) failed() bool {
	return r.status >= 500 || r.isCall() && r.kind == success && r.last != nil && r.status == 200 && r.answerStatus().Fault()
}

// judged is what an answer says of its endpoint. One that finds the time over that the client gave it has not
// failed, nor one that has little of it and does not even try.
func (r *request) judged() balancer.Outcome {
	switch {
	case r.status >= 500:
		return balancer.Status
	case !r.isCall() || r.status != 200 || !r.answerStatus().Fault():
		return balancer.Success
	case r.answerStatus() == grpc.DeadlineExceeded && (r.time.shorter || r.timeOver()):
		return balancer.Canceled
	}
	return balancer.Status
}

// refusedBy reports whether p, whose head b begins with, is an answer without a body whose status the route sends
// calls again after.
func (r *request) refusedBy(p *response, b []byte) bool {
	v := p.fields.grpcStatus.in(b)
	return len(v) > 0 && r.isCall() && p.status == 200 && r.route.retry.calls[grpc.Parse(v)]
}

// pushbackField says after how many milliseconds a call may be sent again; less than 0: not at all
// (https://github.com/grpc/proposal/blob/master/A6-client-retries.md).
const pushbackField = "grpc-retry-pushback-ms"

func appendPushback(b []byte, after time.Duration) []byte {
	b = append(append(b, pushbackField...), ": "...)
	ms := max(int64((after+time.Millisecond-1)/time.Millisecond), 1)
	return append(strconv.AppendInt(b, ms, 10), "\r\n"...)
}

// appendCallStatus appends the lines of an answer of weir's own that is nothing but a status.
func appendCallStatus(b []byte, status grpc.Code, message string) []byte {
	b = strconv.AppendInt(append(b, "Content-Type: application/grpc\r\ngrpc-status: "...), int64(status), 10)
	b = grpc.AppendMessage(append(b, "\r\ngrpc-message: "...), message)
	return append(b, "\r\n"...)
}

// rereads reports whether path is a method of gRPC that computes an answer, or reads one, and changes nothing.
func rereads(path []byte) bool {
	switch string(path) {
	case "/inference.GRPCInferenceService/ModelInfer", "/inference.GRPCInferenceService/ModelMetadata",
		"/inference.GRPCInferenceService/ModelReady", "/inference.GRPCInferenceService/ServerLive",
		"/inference.GRPCInferenceService/ServerReady", "/inference.GRPCInferenceService/ServerMetadata",
		"/grpc.health.v1.Health/Check", "/grpc.health.v1.Health/List":
		return true
	}
	return false
}
