package tracing

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	common "go.opentelemetry.io/proto/otlp/common/v1"
	resource "go.opentelemetry.io/proto/otlp/resource/v1"
	trace "go.opentelemetry.io/proto/otlp/trace/v1"
	"go.uber.org/zap"
	"google.golang.org/protobuf/proto"
)

// Bounds of an exporter.
const (
	queueLength = 4096 // spans that wait
	batchLength = 512  // spans of one export
	linger      = 300 * time.Millisecond
	// patience is for how long an export is tried again.
	patience    = time.Minute
	firstPause  = time.Second
	longestWait = 15 * time.Second
)

// Settings say where spans go.
type Settings struct {
	URL     string // of OTLP over HTTP; without a path it is /v1/traces there
	Headers [][2]string
	Timeout time.Duration // for one export
	Service string        // service.name
	Version string        // service.version
}

// Exporter sends spans. Make it with New. Its methods may be called at the same time, and on a nil Exporter, which
// takes no spans.
type Exporter struct {
	settings Settings
	target   string
	resource *resource.Resource
	client   *http.Client
	log      *zap.Logger
	pause    time.Duration // before the first further try; tests have less time
	counts   *Counts

	queue  chan Span
	ctx    context.Context
	cancel context.CancelFunc
	done   chan struct{}
	failed bool // the last export did; of the goroutine's own

	mu     sync.RWMutex
	closed bool
}

// Counts are what became of spans. They outlive exporters.
type Counts struct{ Exported, Dropped, Failed atomic.Uint64 }

// New returns an exporter that counts in counts and runs until Close.
func New(s Settings, counts *Counts, log *zap.Logger) *Exporter {
	return start(s, counts, log, firstPause)
}

func start(s Settings, counts *Counts, log *zap.Logger, pause time.Duration) *Exporter {
	x := &Exporter{
		settings: s, target: target(s.URL), log: log, counts: counts, pause: pause,
		client: &http.Client{Transport: &http.Transport{Proxy: nil, MaxIdleConnsPerHost: 1, IdleConnTimeout: time.Minute}},
		queue:  make(chan Span, queueLength), done: make(chan struct{}),
		resource: &resource.Resource{Attributes: []*common.KeyValue{
			text("service.name", s.Service), text("service.version", s.Version), text("telemetry.sdk.name", "weir"), text("telemetry.sdk.language", "go"),
		}},
	}
	x.ctx, x.cancel = context.WithCancel(context.Background())
	go x.run()
	return x
}

// target is the URL that is posted to.
func target(collector string) string {
	u, err := url.Parse(collector)
	if err != nil || strings.Trim(u.Path, "/") != "" {
		return collector
	}
	return u.JoinPath("/v1/traces").String()
}

// Export takes spans over, or drops those that find no room. It does not wait.
func (x *Exporter) Export(spans ...Span) {
	if x == nil {
		return
	}
	x.mu.RLock()
	defer x.mu.RUnlock()
	for i := range spans {
		if x.closed {
			x.counts.Dropped.Add(1)
			continue
		}
		select {
		case x.queue <- spans[i]:
		default:
			x.counts.Dropped.Add(1)
		}
	}
}

// Close sends what waits, for as long as ctx allows, and ends the exporter.
func (x *Exporter) Close(ctx context.Context) {
	if x == nil {
		return
	}
	x.mu.Lock()
	if !x.closed {
		x.closed = true
		close(x.queue)
	}
	x.mu.Unlock()
	select {
	case <-x.done:
	case <-ctx.Done():
		x.cancel()
		<-x.done
	}
}

// run sends batches: full ones at once, others after linger.
func (x *Exporter) run() {
	defer close(x.done)
	defer x.client.CloseIdleConnections()
	defer x.cancel()
	batch := make([]*trace.Span, 0, batchLength)
	due := time.NewTimer(linger)
	defer due.Stop()
	due.Stop()
	send := func() {
		if len(batch) > 0 {
			x.send(batch)
			batch = batch[:0]
		}
	}
	for {
		select {
		case s, ok := <-x.queue:
			if !ok {
				send()
				return
			}
			if len(batch) == 0 {
				due.Reset(linger)
			}
			if batch = append(batch, s.message()); len(batch) == batchLength {
				send()
			}
		case <-due.C:
			send()
		}
	}
}

// errAgain is an answer after which the same may be sent again.
type errAgain struct {
	cause error
	after time.Duration // as the collector asks; 0: it does not
}

func (e *errAgain) Error() string { return e.cause.Error() }
func (e *errAgain) Unwrap() error { return e.cause }

// send sends a batch, again for as long as there is hope.
func (x *Exporter) send(batch []*trace.Span) {
	body, err := proto.Marshal(&trace.TracesData{ResourceSpans: []*trace.ResourceSpans{{
		Resource: x.resource, ScopeSpans: []*trace.ScopeSpans{{Scope: &common.InstrumentationScope{Name: "weir", Version: x.settings.Version}, Spans: batch}},
	}}})
	if err == nil {
		err = x.persist(body)
	}
	n := uint64(len(batch))
	if err == nil {
		x.counts.Exported.Add(n)
		x.failed = false
		return
	}
	x.counts.Failed.Add(n)
	if !x.failed { // one line for a collector that is away, not one a second
		x.log.Error("spans are lost: the collector does not take them; the next line of this comes after a success",
			zap.String("otlp", x.target), zap.Int("spans", len(batch)), zap.Error(err))
	}
	x.failed = true
}

func (x *Exporter) persist(body []byte) error {
	until, pause := time.Now().Add(patience), x.pause
	for {
		err := x.post(body)
		again, ok := errors.AsType[*errAgain](err)
		if !ok {
			return err
		}
		wait := max(pause, min(again.after, longestWait))
		if time.Now().Add(wait).After(until) {
			return err
		}
		pause = min(2*pause, longestWait)
		t := time.NewTimer(wait)
		select {
		case <-t.C:
		case <-x.ctx.Done():
			t.Stop()
			return err
		}
	}
}

// post sends one export. Its error is an *errAgain where OTLP says that it may be repeated.
func (x *Exporter) post(body []byte) error {
	ctx, cancel := context.WithTimeout(x.ctx, x.settings.Timeout)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, x.target, bytes.NewReader(body))
	if err != nil {
		return err
	}
	for _, h := range x.settings.Headers {
		r.Header.Set(h[0], h[1])
	}
	r.Header.Set("Content-Type", "application/x-protobuf")
	r.Header.Set("User-Agent", "weir/"+x.settings.Version)
	resp, err := x.client.Do(r)
	if err != nil {
		return &errAgain{cause: err}
	}
	defer resp.Body.Close()
	const most = 64 << 10 // of an answer: the connection is worth keeping
	text, _ := io.ReadAll(io.LimitReader(resp.Body, most))
	if resp.StatusCode/100 == 2 {
		return nil
	}
	err = fmt.Errorf("%s answered %s: %.200q", x.target, resp.Status, text)
	switch resp.StatusCode {
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		seconds, _ := strconv.Atoi(resp.Header.Get("Retry-After"))
		return &errAgain{cause: err, after: time.Duration(max(0, min(seconds, 3600))) * time.Second}
	}
	return err
}

func valid(s string) string { return strings.ToValidUTF8(s, "\ufffd") }
