package backendtest

import "time"

// Field is one header or trailer field. Servers and requests keep them in order and with
// the letter case they were written with.
type Field struct{ Name, Value string }

// Pace slows bytes down: at most Bytes at a time (default 1), then a pause of Every.
// The zero Pace is no limit.
type Pace struct {
	Bytes int
	Every time.Duration
}

// Fault is a way in which an endpoint fails a request.
type Fault uint8

const (
	FaultNone Fault = iota
	// FaultCloseBeforeHead reads the request, then ends the connection with a FIN and no answer.
	FaultCloseBeforeHead
	// FaultResetBeforeHead does the same with an RST.
	FaultResetBeforeHead
	// FaultHangBeforeHead reads the request and never answers; it ends when the client goes.
	FaultHangBeforeHead
	// FaultHangReading reads the request's head and none of its body, and never answers.
	FaultHangReading
	// FaultCloseMidBody sends the head and FaultAfter bytes of the body, then a FIN.
	FaultCloseMidBody
	// FaultResetMidBody does the same with an RST.
	FaultResetMidBody
	// FaultHangMidBody does the same and then neither sends nor closes.
	FaultHangMidBody
)

// Behaviour is what a Server does with a request. The zero value answers every request at
// once with 200 and an empty body, keeps connections alive and never closes an idle one.
// A Server reads its Behaviour once for each request, when the request's head has arrived.
type Behaviour struct {
	// Respond, when set, decides for each request: what it returns is used instead of the
	// rest of this Behaviour (its own Respond and Health are ignored). It is called from
	// many goroutines, when the head is read and the body is not.
	Respond func(*Request) Behaviour

	// Latency passes between the end of the request and the head of the response.
	Latency time.Duration
	// LatencyFunc replaces Latency when set; it is called once a request, concurrently.
	LatencyFunc func() time.Duration

	// Status of the response; 0 is 200.
	Status int
	// ErrorRate is the part of the requests, 0 to 1, that gets ErrorStatus instead of Status.
	ErrorRate float64
	// ErrorStatus 0 is 500.
	ErrorStatus int

	// Interim responses (1xx) are sent before the response, without delay.
	Interim []Interim
	// Header fields of the response in order. Framing fields are added unless they are here;
	// nothing else is.
	Header []Field
	// Body of the response. It is not sent for HEAD, 1xx, 204 and 304.
	Body []byte
	// BodySize, when Body is nil, makes a body of that many bytes: those of Pattern.
	BodySize int64
	// Echo answers with the request's body, streamed chunked while it arrives. Faults in the
	// middle of the body, trailers and paces do not apply to it.
	Echo bool
	// Chunked sends the body in chunks of ChunkSize (default 32 KiB), then Trailers.
	Chunked   bool
	ChunkSize int
	Trailers  []Field
	// UntilClose sends neither length nor chunks: the end of the connection ends the body.
	UntilClose bool
	// Raw, when set, is written as it stands instead of a response.
	Raw []byte
	// Extra is written directly after the response, in the same segment where possible:
	// bytes nobody asked for.
	Extra []byte

	// ReadPace slows the reading of request bodies, WritePace the writing of response bodies.
	ReadPace, WritePace Pace
	// Early answers when EarlyAfter bytes of the request's body have arrived (0: directly
	// after the head) and reads the rest afterwards. A request that says
	// "Expect: 100-continue" then gets no 100.
	Early      bool
	EarlyAfter int64

	// Fault, if any, befalls FaultRate of the requests (0 means all of them).
	Fault     Fault
	FaultRate float64
	// FaultAfter is how many bytes of the body precede a fault in the middle of it.
	FaultAfter int64

	// CloseAfterResponse ends the connection after each response without announcing it.
	CloseAfterResponse bool
	// AnnounceClose says "Connection: close" and then keeps the word.
	AnnounceClose bool
	// IdleTimeout closes a connection that has been idle for so long; 0 is never. It is read
	// when the connection becomes idle.
	IdleTimeout time.Duration

	// Health is the answer to probes; it depends on nothing above.
	Health Health

	// Load is sent as ORCA load report in "endpoint-load-metrics" when the request asks by
	// "endpoint-load-metrics-format: text" (or json). A key "named_metrics.x" is named metric x.
	Load map[string]float64
}

// Interim is a 1xx response.
type Interim struct {
	Status int
	Header []Field
}

// Health is how a Server answers its probe path. Probes are counted and recorded apart from
// requests.
type Health struct {
	// Path is the probe path; "" is /health/ready. "-" is none: such requests are ordinary ones.
	Path string
	// Status 0 is 200.
	Status  int
	Latency time.Duration
	Fault   Fault
}

func (h Health) path() string {
	if h.Path == "" {
		return "/health/ready"
	}
	return h.Path
}

// behaviour is the probe's answer in the terms of any other request.
func (h Health) behaviour() Behaviour {
	return Behaviour{Status: h.Status, Latency: h.Latency, Fault: h.Fault}
}
