package scenarios

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"
)

// Paths of a pod beside those that it serves.
const (
	pathBegin  = "/begin"  // POST, ?seed=N: an empty pod, and the draws of that seed from the first on
	pathServed = "/served" // GET: how many requests were taken since, of whatever outcome
)

// Pod is a server that behaves as its model says.
type Pod struct {
	model Model

	mu     sync.Mutex
	line   *line
	start  time.Time
	over   chan struct{} // closed by the next begin
	served uint64
	inside int // requests under way
}

// NewPod returns an empty pod.
func NewPod(m Model) *Pod {
	p := &Pod{model: m}
	p.begin(0)
	return p
}

// begin empties the pod: whoever waits in it is sent away.
func (p *Pod) begin(seed uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.over != nil {
		close(p.over)
	}
	p.line, p.start, p.over, p.served, p.inside = newLine(p.model, seed), time.Now(), make(chan struct{}), 0, 0
}

// ServeHTTP implements [http.Handler].
func (p *Pod) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case pathBegin:
		seed, err := strconv.ParseUint(r.URL.Query().Get("seed"), 10, 64)
		if err != nil {
			http.Error(w, "seed: "+err.Error(), http.StatusBadRequest)
			return
		}
		p.begin(seed)
	case pathServed:
		p.mu.Lock()
		served := p.served
		p.mu.Unlock()
		fmt.Fprint(w, served)
	default:
		w.WriteHeader(p.serve(r.Context()))
	}
}

// serve takes a request and returns the status of its answer when it is done.
func (p *Pod) serve(ctx context.Context) int {
	p.mu.Lock()
	l, start, over := p.line, p.start, p.over
	p.served++
	if l.fails() {
		p.mu.Unlock()
		return http.StatusInternalServerError
	}
	if q := p.model.Queue; q > 0 && p.inside >= q+p.model.Servers*max(p.model.Batch, 1) {
		p.mu.Unlock()
		return http.StatusServiceUnavailable
	}
	p.inside++
	b := l.join(time.Since(start))
	p.mu.Unlock()
	defer func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.line == l {
			p.inside--
		}
	}()
	// What waits for a batch's begin knows its size only then. A request whose client went away keeps its place: a
	// model server does not stop what it was given.
	if !sleep(ctx, over, start.Add(b.start)) {
		return http.StatusServiceUnavailable
	}
	p.mu.Lock()
	end := l.end(b)
	p.mu.Unlock()
	if !sleep(ctx, over, start.Add(end)) {
		return http.StatusServiceUnavailable
	}
	return http.StatusOK
}

// sleep waits for a moment, and reports whether it came before the end of ctx and of the pod's run.
func sleep(ctx context.Context, over <-chan struct{}, until time.Time) bool {
	timer := time.NewTimer(time.Until(until))
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
	case <-over:
	}
	return false
}

// Serve has a pod of that model answer on ln, which it closes, until ctx is done.
func Serve(ctx context.Context, ln net.Listener, m Model) error {
	s := &http.Server{Handler: NewPod(m), ReadHeaderTimeout: time.Minute}
	stop := context.AfterFunc(ctx, func() { _ = s.Close() })
	defer stop()
	if err := s.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
