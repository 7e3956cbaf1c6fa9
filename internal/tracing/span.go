// Package tracing sends spans to a collector of OpenTelemetry, by OTLP over HTTP
// (opentelemetry.io/docs/specs/otlp). Who makes spans never waits for it: they collect in a bounded queue, and what
// finds no room is dropped and counted.
//
// The messages are OpenTelemetry's own; the rest of its SDK is not used, because a span of a proxy has to have its ids
// before there is a tracer (they came with the request, and go on in its head), and because its exporter brings gRPC
// and a gateway into the program for messages that leave by HTTP.
package tracing

import (
	"time"

	common "go.opentelemetry.io/proto/otlp/common/v1"
	trace "go.opentelemetry.io/proto/otlp/trace/v1"
)

// TraceID and SpanID are those of W3C Trace Context; zero is none.
type (
	TraceID [16]byte
	SpanID  [8]byte
)

// Kind is the side that a span is seen from.
type Kind = trace.Span_SpanKind

const (
	Server = trace.Span_SPAN_KIND_SERVER // the span of a request that came in
	Client = trace.Span_SPAN_KIND_CLIENT // that of one that went out
)

// Attribute is one property of a span, named after OpenTelemetry's semantic conventions where they have it.
type Attribute struct {
	Key    string
	Text   string
	Number int64
	// IsNumber tells which of the two it is.
	IsNumber bool
}

// Text is an attribute with a text.
func Text(key, value string) Attribute { return Attribute{Key: key, Text: value} }

// Number is an attribute with a number.
func Number(key string, value int64) Attribute {
	return Attribute{Key: key, Number: value, IsNumber: true}
}

// Span is one operation. It is the exporter's once it is given to Export.
type Span struct {
	Trace      TraceID
	ID, Parent SpanID
	State      string // tracestate, as it came
	Name       string
	Kind       Kind
	Start, End time.Time
	Attributes []Attribute
	// Failed: the operation did not do what it was for.
	Failed bool
}

// message is the span as OTLP has it.
func (s *Span) message() *trace.Span {
	m := &trace.Span{
		TraceId: s.Trace[:], SpanId: s.ID[:], TraceState: s.State, Name: s.Name, Kind: s.Kind,
		StartTimeUnixNano: uint64(s.Start.UnixNano()), EndTimeUnixNano: uint64(max(s.End.UnixNano(), s.Start.UnixNano())),
		Attributes: make([]*common.KeyValue, 0, len(s.Attributes)), Status: &trace.Status{},
	}
	if s.Parent != (SpanID{}) {
		m.ParentSpanId = s.Parent[:]
	}
	if s.Failed {
		m.Status.Code = trace.Status_STATUS_CODE_ERROR
	}
	for i := range s.Attributes {
		a := &s.Attributes[i]
		if a.IsNumber {
			m.Attributes = append(m.Attributes, pair(a.Key, &common.AnyValue{Value: &common.AnyValue_IntValue{IntValue: a.Number}}))
		} else if a.Text != "" {
			m.Attributes = append(m.Attributes, text(a.Key, a.Text))
		}
	}
	return m
}

func pair(key string, value *common.AnyValue) *common.KeyValue {
	return &common.KeyValue{Key: key, Value: value}
}

// text has the value's invalid UTF-8 replaced: a message with any cannot be written.
func text(key, value string) *common.KeyValue {
	return pair(key, &common.AnyValue{Value: &common.AnyValue_StringValue{StringValue: valid(value)}})
}
