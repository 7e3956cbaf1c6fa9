package backendtest

import (
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
)

// GRPCBehaviour is what a GRPC does with a call. The zero value echoes: every message of the
// call is sent back as it comes, and when the call's last one has been read the status is OK.
// That is a unary call and a call that streams both ways. Messages: 1 is one that streams to
// the server, Messages: 5 one that streams to the client.
//
// Whatever the behaviour, metadata of the call whose keys begin with "echo-" are sent back, in
// the trailers when they begin with "echo-trailer-", else in the head.
type GRPCBehaviour struct {
	// Respond, when set, decides for each call: what it returns is used instead of the rest of
	// this behaviour (its own Respond is ignored). It is called from many goroutines, when the
	// call's head is read and its messages are not. Call.N tells the n-th call from the others.
	Respond func(*Call) GRPCBehaviour

	// Latency passes before the head of the answer: after the first message when echoing, else
	// after the last one.
	Latency time.Duration
	// Early answers without reading the call's messages.
	Early bool

	// Messages to answer when all of the call's have been read, instead of echoing them one by
	// one. Less than 0 is none. A call with a Code gets none either, unless Messages is set.
	Messages int
	// Body of each of them. When it is nil they are Size bytes of Pattern, and when that is 0
	// all messages of the call put together.
	Body []byte
	Size int
	// Pause between them.
	Pause time.Duration

	// Code and Status are how the call ends.
	Code   codes.Code
	Status string
	// Head sends the head at once, before Latency. Without it the head goes with the first
	// message, and an answer without a message is "trailers only": one HEADERS frame.
	Head bool
	// Header and Trailer are sent in head and trailers, both in the trailers where there is no head.
	Header, Trailer metadata.MD

	// Fault, if any, befalls the call. Those that befall a connection end all calls on it.
	// "Before the head" is when the call's messages have been read, FaultHangReading reads
	// none; "mid body" is in place of the trailers, when head and messages have been written
	// (over TLS it is not known where that is, and they are sent).
	Fault Fault

	// Load is sent as ORCA load report in the trailers, under the same condition as by a Server.
	Load map[string]float64

	// Probe, when set, is the behaviour towards calls of grpc.health.v1.Health/Check, which get
	// the answer of SetHealth otherwise. They are counted apart.
	Probe *GRPCBehaviour
}

// echoes says whether messages are sent back as they come.
func (b *GRPCBehaviour) echoes() bool {
	return b.Messages == 0 && b.Code == codes.OK && !b.Early && b.Fault < FaultCloseBeforeHead
}

// Call is what a GRPC knows about a call.
type Call struct {
	// N counts the calls from 1 in the order in which they began, probes apart.
	N int64
	// Method is the whole path, such as "/inference.GRPCInferenceService/ModelInfer".
	Method string
	// Metadata of the call, ":authority" and "content-type" included; keys are in lower case.
	Metadata metadata.MD
	// Timeout is how much of the client's deadline was left when the call began, 0 without one.
	Timeout time.Duration
	// Connection counts the server's connections from 1.
	Connection int64

	// Received and Bytes are of the messages read so far, First is the first of them.
	Received int
	Bytes    int64
	First    []byte
	// Sent is how many messages were sent.
	Sent int

	Begun time.Time
	// Ended is when the answer's end was handed over; zero while the call runs.
	Ended time.Time
	// Canceled is when the call was found to have been given up before its answer's end: by
	// the client, its deadline or the connection's end. Cause says which.
	Canceled time.Time
	Cause    error
}
