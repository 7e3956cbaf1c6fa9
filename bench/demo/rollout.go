package demo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"weir/bench"
)

// What a demonstration of rollouts rolls out.
const (
	RolloutGood = "good" // a model that is better: it has to be promoted
	RolloutBad  = "bad"  // one that is right less often, then one that is slow: both have to be taken back
)

const (
	badModel = "fashion-bad.onnx"
	// slowness is what the slow version takes longer for each answer.
	slowness = 20 * time.Millisecond
	// rolloutPatience is how long one rollout may take.
	rolloutPatience = 3 * time.Minute
	// outcomesEvery is how often labels are told.
	outcomesEvery = 200 * time.Millisecond
)

// chapter is one rollout, and how it has to end.
type chapter struct {
	to    string
	phase string
}

func (o *Options) chapters() []chapter {
	switch o.Rollout {
	case RolloutGood:
		return []chapter{{"green", "succeeded"}}
	case RolloutBad:
		return []chapter{{"green", "aborted"}, {"slow", "aborted"}}
	}
	return nil
}

// story makes the rollouts of a demonstration, one after the other, and tells what becomes of them. Its problems are what
// should not be.
type story struct {
	o     *Options
	stack *stack
	admin *bench.Admin
	told  chan string
	end   func() // of the load
}

// run returns when all rollouts have ended, or ctx.
func (s *story) run(ctx context.Context) (problems []string) {
	defer s.end()
	for _, c := range s.o.chapters() {
		if !pause(ctx, 10*s.o.tick/4) {
			return problems
		}
		if err := s.rollOut(ctx, c); err != nil {
			if ctx.Err() == nil {
				problems = append(problems, err.Error())
			}
			return problems
		}
	}
	pause(ctx, 2*s.o.tick) // so that the end is seen
	return problems
}

func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

func (s *story) tell(ctx context.Context, format string, args ...any) {
	select {
	case s.told <- fmt.Sprintf(format, args...):
	case <-ctx.Done():
	}
}

// rollOut starts one rollout with weir's own command, and follows it to its end.
func (s *story) rollOut(ctx context.Context, c chapter) error {
	ctx, cancel := context.WithTimeout(ctx, rolloutPatience)
	defer cancel()
	s.tell(ctx, "%s rollout start %s --to %s", s.o.Command, routeName, c.to)
	out, err := exec.CommandContext(ctx, filepath.Join(s.o.Programs, "weir"), "rollout", "start", routeName, "--to", c.to, "--admin", s.stack.admin).CombinedOutput()
	if err != nil {
		return fmt.Errorf("the rollout to %s was not started: %w: %s", c.to, err, bytes.TrimSpace(out))
	}
	tick := time.NewTicker(s.o.tick / 5)
	defer tick.Stop()
	said := ""
	for {
		select {
		case <-ctx.Done():
			return fmt.Errorf("the rollout to %s has not ended in %s", c.to, rolloutPatience)
		case <-tick.C:
		}
		r, err := s.admin.Rollout(ctx, routeName)
		if err != nil {
			return err
		}
		if now := fmt.Sprintf("%s, step %d of %d: %s has %g %%", r.Phase, r.Step, len(r.Steps), c.to, r.Weight); now != said {
			said = now
			s.tell(ctx, "%s", now)
		}
		if r.Phase != "succeeded" && r.Phase != "aborted" {
			continue
		}
		s.tell(ctx, "%s: %s", r.Phase, r.Why)
		return s.check(ctx, c, r)
	}
}

// check holds the end of a rollout, and where traffic then goes, against what should be.
func (s *story) check(ctx context.Context, c chapter, r *bench.Rollout) error {
	if r.Phase != c.phase {
		return fmt.Errorf("the rollout to %s has %s, and should have %s: %s", c.to, r.Phase, c.phase, r.Why)
	}
	route, err := s.admin.Route(ctx, routeName)
	if err != nil {
		return err
	}
	want := 0.0
	if c.phase == "succeeded" {
		want = 100
	}
	if got := route.Weights()[c.to]; got != want {
		return fmt.Errorf("after the rollout to %s it has a weight of %g, and should have %g", c.to, got, want)
	}
	return nil
}

// labelled asks about labelled images, each with a request id of its own, and remembers which answers were right.
type labelled struct {
	*bench.Infer
	mu   sync.Mutex
	seen []bench.Outcome
}

// labels is more than there are.
const labels = 16

// requestID is the id of the n-th request.
func requestID(n int) string { return "demo-" + strconv.Itoa(n) }

// Append implements bench.Target.
func (t *labelled) Append(b []byte, n uint64) ([]byte, bench.Hit) {
	from := len(b)
	b, hit := t.Infer.Append(b, n)
	line := from + bytes.IndexByte(b[from:], '\n') + 1
	rest := bytes.Clone(b[line:])
	b = append(append(b[:line], "X-Request-ID: "+requestID(int(n))+"\r\n"...), rest...)
	hit.Label += labels * int(n)
	return b, hit
}

// Judge implements bench.Target.
func (t *labelled) Judge(hit bench.Hit, r *bench.Response) bench.Verdict {
	n := hit.Label / labels
	hit.Label %= labels
	v := t.Infer.Judge(hit, r)
	o := bench.Outcome{RequestID: requestID(n), Name: "right"}
	switch v {
	case bench.Right:
		o.Value = 1
	case bench.Wrong:
	default:
		return v
	}
	t.mu.Lock()
	t.seen = append(t.seen, o)
	t.mu.Unlock()
	return v
}

// report tells weir's experiment which answers were right, as a pipeline would that gets its labels later, until ctx ends.
func (t *labelled) report(ctx context.Context, admin *bench.Admin) error {
	for pause(ctx, outcomesEvery) {
		t.mu.Lock()
		seen := t.seen
		t.seen = nil
		t.mu.Unlock()
		if len(seen) == 0 {
			continue
		}
		if err := admin.ReportOutcomes(ctx, routeName, seen); err != nil && ctx.Err() == nil {
			return err
		}
	}
	return nil
}

// slow puts a delay before a backend, and returns the address to reach it at.
func slow(address string, by time.Duration) (slowed string, stop func() error, err error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, err
	}
	proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: address})
	server := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if pause(r.Context(), by) {
			proxy.ServeHTTP(w, r)
		}
	})}
	go func() {
		if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			panic(err) // a listener of our own on loopback
		}
	}()
	return l.Addr().String(), server.Close, nil
}
