// Package tracingtest is a collector of OTLP over HTTP for tests, which keeps what it was sent.
package tracingtest

import (
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"

	trace "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"
)

// Collector takes spans on loopback until the end of the test.
type Collector struct {
	URL string

	mu      sync.Mutex
	spans   []*trace.Span
	exports []*http.Request
	data    []*trace.TracesData
	answers []func(http.ResponseWriter)
}

// New starts a collector. Each export is answered by the next of answers, and with 200 where there is none any more;
// only spans of exports that were answered so count.
func New(t testing.TB, answers ...func(http.ResponseWriter)) *Collector {
	t.Helper()
	c := &Collector{answers: answers}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { c.serve(t, w, r) }))
	t.Cleanup(s.Close)
	c.URL = s.URL
	return c
}

func (c *Collector) serve(t testing.TB, w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	var data trace.TracesData // field by field an ExportTraceServiceRequest
	if err == nil {
		err = proto.Unmarshal(body, &data)
	}
	if err != nil {
		t.Errorf("an export cannot be read: %v", err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.exports, c.data = append(c.exports, r), append(c.data, &data)
	if len(c.answers) > 0 {
		answer := c.answers[0]
		c.answers = c.answers[1:]
		answer(w)
		return
	}
	for _, rs := range data.GetResourceSpans() {
		for _, ss := range rs.GetScopeSpans() {
			c.spans = append(c.spans, ss.GetSpans()...)
		}
	}
	w.Header().Set("Content-Type", "application/x-protobuf")
}

// Spans are those that were taken.
func (c *Collector) Spans() []*trace.Span {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]*trace.Span(nil), c.spans...)
}

// Exports are the requests that came, whatever was answered, and what they held.
func (c *Collector) Exports() ([]*http.Request, []*trace.TracesData) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]*http.Request(nil), c.exports...), append([]*trace.TracesData(nil), c.data...)
}

// Attributes are those of a span, numbers as int64.
func Attributes(s *trace.Span) map[string]any {
	all := map[string]any{}
	for _, kv := range s.GetAttributes() {
		all[kv.GetKey()] = kv.GetValue().GetIntValue()
		if text := kv.GetValue().GetStringValue(); text != "" {
			all[kv.GetKey()] = text
		}
	}
	return all
}
