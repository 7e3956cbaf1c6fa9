package proxy

import (
	"weir/balancer"
	"weir/proxy/grpc"
)

// kind is how a request, or one attempt of it, ended. The failures table says what follows from it.
type kind uint8

const (
	success kind = iota
	// What weir refuses, before an endpoint is chosen or while the body comes in.
	malformed
	badEncoding
	badVersion
	onlyHTTP2
	badMethod
	noRoute
	forbidden
	unauthorized
	authBusy
	authUnready
	clientSlow
	bodyTooLarge
	uriTooLong
	headTooLarge
	badExpectation
	noEndpoint
	overloaded
	outOfMemory
	rateLimited
	shed    // by a bound or a breaker; r.in.turn.refused is the message
	expired // the client gave the request less time than it took
	badTimeout
	internal
	// What an attempt can end in.
	connectFailed
	resetByEndpoint
	refused // the endpoint has not acted upon it, again and again
	attemptTimeout
	totalTimeout
	protocolError
	clientGone
	staleReset // a kept-alive connection that ended just as the request arrived: nobody's fault
	badStatus  // an answer that is not passed on because the request is sent again
	supplanted // an answer that is not passed on because a stale one is better
	notCached  // the client wants no other answer than a kept one
)

const kinds = int(notCached) + 1

// failure is what follows from a kind: what the client is told, and whom the attempt counts against.
type failure struct {
	status  int    // for the client, when nothing of an answer was sent yet; 499 is never sent
	code    string // the "code" of the answer, and the access log's "error"
	message string
	outcome balancer.Outcome // of the attempt
	call    grpc.Code        // for the client, where the request is a call of gRPC
	reason  string           // label of weir_bad_requests_total, where the head was not valid
}

// failures is the one place that decides. Nothing the client did counts against an endpoint.
var failures = [...]failure{
	success:         {outcome: balancer.Success},
	malformed:       {status: 400, code: "bad_request", message: "malformed request", outcome: balancer.Canceled, call: grpc.Internal, reason: "malformed"},
	badEncoding:     {status: 501, code: "not_implemented", message: "transfer coding not supported: send chunked, or a Content-Length", outcome: balancer.Canceled, call: grpc.Unimplemented, reason: "encoding"},
	badVersion:      {status: 505, code: "version_not_supported", message: "HTTP version not supported: send HTTP/1.1", outcome: balancer.Canceled, call: grpc.Internal, reason: "version"},
	onlyHTTP2:       {status: 505, code: "version_not_supported", message: "this listener speaks HTTP/2 only", outcome: balancer.Canceled, call: grpc.Internal, reason: "version"},
	badMethod:       {status: 405, code: "method_not_allowed", message: "weir does not pass this method on", outcome: balancer.Canceled, call: grpc.Unimplemented},
	noRoute:         {status: 404, code: "no_route", message: "no route matches this request", outcome: balancer.Canceled, call: grpc.Unimplemented},
	forbidden:       {status: 403, code: "forbidden", message: "this address may not use this route", outcome: balancer.Canceled, call: grpc.PermissionDenied},
	unauthorized:    {status: 401, code: "unauthorized", message: "this route asks for valid credentials", outcome: balancer.Canceled, call: grpc.Unauthenticated},
	authBusy:        {status: 503, code: "overloaded", message: "too many passwords wait to be checked", outcome: balancer.Canceled, call: grpc.Unavailable},
	authUnready:     {status: 503, code: "auth_unavailable", message: "the keys that tokens are verified by have not come yet", outcome: balancer.Canceled, call: grpc.Unavailable},
	clientSlow:      {status: 408, code: "request_timeout", message: "the request took too long to arrive", outcome: balancer.Canceled, call: grpc.DeadlineExceeded, reason: "timeout"},
	bodyTooLarge:    {status: 413, code: "body_too_large", message: "the request's body is larger than this route accepts", outcome: balancer.Canceled, call: grpc.ResourceExhausted},
	uriTooLong:      {status: 414, code: "uri_too_long", message: "the request's target is longer than this listener accepts", outcome: balancer.Canceled, call: grpc.ResourceExhausted, reason: "uri_too_long"},
	headTooLarge:    {status: 431, code: "header_too_large", message: "the request's head is larger than this listener accepts", outcome: balancer.Canceled, call: grpc.ResourceExhausted, reason: "header_too_large"},
	badExpectation:  {status: 417, code: "expectation_failed", message: "the only expectation that can be met is 100-continue", outcome: balancer.Canceled, call: grpc.Internal},
	noEndpoint:      {status: 503, code: "no_endpoint", message: "no endpoint can take this request", outcome: balancer.Canceled, call: grpc.Unavailable},
	outOfMemory:     {status: 503, code: "overloaded", message: "weir is short of memory", outcome: balancer.Canceled, call: grpc.Unavailable},
	overloaded:      {status: 503, code: "overloaded", message: "all connections to the endpoint are in use", outcome: balancer.Canceled, call: grpc.Unavailable},
	rateLimited:     {status: 429, code: "rate_limited", message: "too many requests: this route's rate limit is used up", outcome: balancer.Canceled, call: grpc.ResourceExhausted},
	shed:            {status: 503, code: "overloaded", message: "too many requests are under way", outcome: balancer.Canceled, call: grpc.Unavailable},
	expired:         {status: 504, code: "timeout", message: "the time that the client gave the request is over", outcome: balancer.Canceled, call: grpc.DeadlineExceeded},
	internal:        {status: 500, code: "internal", message: "internal error", outcome: balancer.Canceled, call: grpc.Internal},
	connectFailed:   {status: 502, code: "bad_gateway", message: "cannot connect to the endpoint", outcome: balancer.Connect, call: grpc.Unavailable},
	resetByEndpoint: {status: 502, code: "bad_gateway", message: "the endpoint ended the connection before its answer was complete", outcome: balancer.Reset, call: grpc.Unavailable},
	refused:         {status: 502, code: "bad_gateway", message: "the endpoint takes no more requests on its connections", outcome: balancer.Connect, call: grpc.Unavailable},
	attemptTimeout:  {status: 504, code: "timeout", message: "the endpoint did not answer in time", outcome: balancer.Timeout, call: grpc.DeadlineExceeded},
	totalTimeout:    {status: 504, code: "timeout", message: "the request did not end in time", outcome: balancer.Timeout, call: grpc.DeadlineExceeded},
	protocolError:   {status: 502, code: "bad_gateway", message: "the endpoint's answer is not valid HTTP", outcome: balancer.Protocol, call: grpc.Internal},
	clientGone:      {status: 499, code: "client_gone", message: "the client went away", outcome: balancer.Canceled, call: grpc.Cancelled},
	staleReset:      {status: 502, code: "bad_gateway", message: "the endpoint closed the connection just as the request arrived", outcome: balancer.Canceled, call: grpc.Unavailable},
	badStatus:       {status: 503, code: "no_endpoint", message: "no endpoint can take this request again", outcome: balancer.Status, call: grpc.Unavailable},
	supplanted:      {status: 503, code: "no_endpoint", message: "the endpoint failed, and what was kept of its answers is gone", outcome: balancer.Status, call: grpc.Unavailable},
	notCached:       {status: 504, code: "not_cached", message: "no kept answer is as fresh as only-if-cached asks for", outcome: balancer.Canceled, call: grpc.Unavailable},
	badTimeout:      {status: 400, code: "bad_request", message: "grpc-timeout is not 1 to 8 digits and a unit: H, M, S, m, u or n", outcome: balancer.Canceled, call: grpc.Internal},
}

func (k kind) failure() *failure { return &failures[k] }
