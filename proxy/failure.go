package proxy

import "weir/balancer"

// kind is how a request, or one attempt of it, ended. The failures table says what follows from it.
type kind uint8

const (
	success kind = iota
	// What weir refuses, before an endpoint is chosen or while the body comes in.
	malformed
	badEncoding
	badVersion
	badMethod
	noRoute
	clientSlow
	bodyTooLarge
	uriTooLong
	headTooLarge
	badExpectation
	noEndpoint
	overloaded
	rateLimited
	internal
	// What an attempt can end in.
	connectFailed
	resetByEndpoint
	attemptTimeout
	totalTimeout
	protocolError
	clientGone
	staleReset // a kept-alive connection that ended just as the request arrived: nobody's fault
	badStatus  // an answer that is not passed on because the request is sent again
)

const kinds = int(badStatus) + 1

// failure is what follows from a kind: what the client is told, and whom the attempt counts against.
type failure struct {
	status  int    // for the client, when nothing of an answer was sent yet; 499 is never sent
	code    string // the "code" of the answer, and the access log's "error"
	message string
	outcome balancer.Outcome // of the attempt
	reason  string           // label of weir_bad_requests_total, where the head was not valid
}

// failures is the one place that decides. Nothing the client did counts against an endpoint.
var failures = [...]failure{
	success:         {outcome: balancer.Success},
	malformed:       {status: 400, code: "bad_request", message: "malformed request", outcome: balancer.Canceled, reason: "malformed"},
	badEncoding:     {status: 501, code: "not_implemented", message: "transfer coding not supported: send chunked, or a Content-Length", outcome: balancer.Canceled, reason: "encoding"},
	badVersion:      {status: 505, code: "version_not_supported", message: "HTTP version not supported: send HTTP/1.1", outcome: balancer.Canceled, reason: "version"},
	badMethod:       {status: 405, code: "method_not_allowed", message: "weir does not pass this method on", outcome: balancer.Canceled},
	noRoute:         {status: 404, code: "no_route", message: "no route matches this request", outcome: balancer.Canceled},
	clientSlow:      {status: 408, code: "request_timeout", message: "the request took too long to arrive", outcome: balancer.Canceled, reason: "timeout"},
	bodyTooLarge:    {status: 413, code: "body_too_large", message: "the request's body is larger than this route accepts", outcome: balancer.Canceled},
	uriTooLong:      {status: 414, code: "uri_too_long", message: "the request's target is longer than this listener accepts", outcome: balancer.Canceled, reason: "uri_too_long"},
	headTooLarge:    {status: 431, code: "header_too_large", message: "the request's head is larger than this listener accepts", outcome: balancer.Canceled, reason: "header_too_large"},
	badExpectation:  {status: 417, code: "expectation_failed", message: "the only expectation that can be met is 100-continue", outcome: balancer.Canceled},
	noEndpoint:      {status: 503, code: "no_endpoint", message: "no endpoint can take this request", outcome: balancer.Canceled},
	overloaded:      {status: 503, code: "overloaded", message: "all connections to the endpoint are in use", outcome: balancer.Canceled},
	rateLimited:     {status: 429, code: "rate_limited", message: "too many requests: this route's rate limit is used up", outcome: balancer.Canceled},
	internal:        {status: 500, code: "internal", message: "internal error", outcome: balancer.Canceled},
	connectFailed:   {status: 502, code: "bad_gateway", message: "cannot connect to the endpoint", outcome: balancer.Connect},
	resetByEndpoint: {status: 502, code: "bad_gateway", message: "the endpoint ended the connection before its answer was complete", outcome: balancer.Reset},
	attemptTimeout:  {status: 504, code: "timeout", message: "the endpoint did not answer in time", outcome: balancer.Timeout},
	totalTimeout:    {status: 504, code: "timeout", message: "the request did not end in time", outcome: balancer.Timeout},
	protocolError:   {status: 502, code: "bad_gateway", message: "the endpoint's answer is not valid HTTP/1.1", outcome: balancer.Protocol},
	clientGone:      {status: 499, code: "client_gone", message: "the client went away", outcome: balancer.Canceled},
	staleReset:      {status: 502, code: "bad_gateway", message: "the endpoint closed the connection just as the request arrived", outcome: balancer.Canceled},
	badStatus:       {status: 503, code: "no_endpoint", message: "no endpoint can take this request again", outcome: balancer.Status},
}

func (k kind) failure() *failure { return &failures[k] }
