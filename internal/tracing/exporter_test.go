package tracing

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	trace "go.opentelemetry.io/proto/otlp/trace/v1"
	"go.uber.org/goleak"
	"go.uber.org/zap"

	"weir/internal/tracing/tracingtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func aSpan(name string) Span {
	start := time.Unix(1_700_000_000, 5)
	return Span{
		Trace: TraceID{1, 2}, ID: SpanID{3}, Parent: SpanID{4}, State: "a=b", Name: name, Kind: Client, Start: start, End: start.Add(time.Second), Failed: true,
		Attributes: []Attribute{Text("a", "x\xff"), Number("n", -7), Text("left out", "")},
	}
}

func exporter(t *testing.T, s Settings) (*Exporter, *Counts) {
	t.Helper()
	counts := new(Counts)
	if s.Timeout == 0 {
		s.Timeout = 20 * time.Second
	}
	x := start(s, counts, zap.NewNop(), time.Millisecond)
	t.Cleanup(func() { closed(t, x) })
	return x, counts
}

func closed(t *testing.T, x *Exporter) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	x.Close(ctx)
	if ctx.Err() != nil {
		t.Error("Close took all the time it was given")
	}
}

// TestExport: what arrives is what was given, with who sent it.
func TestExport(t *testing.T) {
	c := tracingtest.New(t)
	x, counts := exporter(t, Settings{URL: c.URL, Service: "edge", Version: "1.2", Headers: [][2]string{{"X-Key", "secret"}}})
	x.Export(aSpan("one"), aSpan("two"))
	closed(t, x)
	x.Export(aSpan("late"))
	requests, data := c.Exports()
	if len(requests) != 1 || requests[0].URL.Path != "/v1/traces" || requests[0].Method != "POST" ||
		requests[0].Header.Get("Content-Type") != "application/x-protobuf" || requests[0].Header.Get("X-Key") != "secret" {
		t.Fatalf("the exports are %v", requests)
	}
	if r := data[0].GetResourceSpans()[0].GetResource().String(); !strings.Contains(r, "edge") || !strings.Contains(r, "1.2") {
		t.Errorf("the resource is %s", r)
	}
	spans := c.Spans()
	if len(spans) != 2 || spans[1].GetName() != "two" {
		t.Fatalf("%d spans came", len(spans))
	}
	s := spans[0]
	a := tracingtest.Attributes(s)
	if s.GetKind() != trace.Span_SPAN_KIND_CLIENT || s.GetStatus().GetCode() != trace.Status_STATUS_CODE_ERROR || s.GetTraceState() != "a=b" ||
		s.GetTraceId()[1] != 2 || s.GetSpanId()[0] != 3 || s.GetParentSpanId()[0] != 4 ||
		s.GetEndTimeUnixNano()-s.GetStartTimeUnixNano() != 1e9 || s.GetStartTimeUnixNano() != 1_700_000_000_000_000_005 ||
		a["a"] != "x\ufffd" || a["n"] != int64(-7) || len(a) != 2 {
		t.Errorf("the span is %v", s)
	}
	if counts.Exported.Load() != 2 || counts.Dropped.Load() != 1 || counts.Failed.Load() != 0 {
		t.Errorf("exported %d, dropped %d, failed %d", counts.Exported.Load(), counts.Dropped.Load(), counts.Failed.Load())
	}
}

// TestExportAgain: an answer that asks for it has the export repeated, any other ends it.
func TestExportAgain(t *testing.T) {
	status := func(code int) func(http.ResponseWriter) {
		return func(w http.ResponseWriter) { w.WriteHeader(code) }
	}
	for _, c := range []struct {
		name     string
		answers  []func(http.ResponseWriter)
		exports  int
		exported uint64
	}{
		{"busy twice", []func(http.ResponseWriter){status(503), status(429)}, 3, 1},
		{"a gateway", []func(http.ResponseWriter){status(502), status(504), status(502)}, 4, 1},
		{"refused", []func(http.ResponseWriter){status(400)}, 1, 0},
		{"an error of its own", []func(http.ResponseWriter){status(500)}, 1, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			collector := tracingtest.New(t, c.answers...)
			x, counts := exporter(t, Settings{URL: collector.URL + "/own/path"})
			x.Export(aSpan("one"))
			closed(t, x)
			requests, _ := collector.Exports()
			if len(requests) != c.exports || counts.Exported.Load() != c.exported || counts.Failed.Load() != 1-c.exported || requests[0].URL.Path != "/own/path" {
				t.Errorf("%d exports to %s, exported %d, failed %d", len(requests), requests[0].URL.Path, counts.Exported.Load(), counts.Failed.Load())
			}
		})
	}
}

// TestExportNeverWaits: a collector that does not answer costs spans, no time, and Close takes what it is given.
func TestExportNeverWaits(t *testing.T) {
	reached, leave := make(chan struct{}), make(chan struct{})
	c := tracingtest.New(t, func(http.ResponseWriter) { close(reached); <-leave })
	defer close(leave)
	counts := new(Counts)
	x := start(Settings{URL: c.URL, Timeout: time.Hour}, counts, zap.NewNop(), time.Millisecond)
	x.Export(aSpan("first"))
	<-reached
	const more = queueLength + 100
	for range more {
		x.Export(aSpan("more"))
	}
	if n := counts.Dropped.Load(); n != 100 {
		t.Errorf("%d spans were dropped; want those beyond the queue", n)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	x.Close(ctx)
	if n := counts.Failed.Load(); n != more-100+1 {
		t.Errorf("%d spans count as failed, want all that were taken", n)
	}
	(*Exporter)(nil).Export(aSpan("none"))
	(*Exporter)(nil).Close(ctx)
}
