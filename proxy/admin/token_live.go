package admin

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"

	"go.uber.org/zap"

	"weir/config"
	"weir/internal/telemetry"
)

// Tokens are the tokens in force; they follow their file. Without one, none is asked for.
type Tokens struct {
	log     *zap.Logger
	current atomic.Pointer[TokenSet]

	mu   sync.Mutex // one change at a time
	path string
	stop func() // ends the watch of path

	background sync.WaitGroup
}

// NewTokens returns tokens that ask for none until Use.
func NewTokens(log *zap.Logger) *Tokens { return &Tokens{log: log, stop: func() {}} }

// Use puts the set in force for the next request, and follows the file that it was read from.
func (t *Tokens) Use(path string, set *TokenSet) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if path == t.path {
		// The watch may have taken up a later content since set was read. Reads under the lock are in order.
		if latest, err := ReadTokens(path); err == nil {
			t.put(latest)
		}
		return
	}
	t.put(set)
	t.stop()
	t.path, t.stop = path, func() {}
	if path == "" {
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	t.stop = cancel
	watched := config.Watch(ctx, path, func(err error) { t.log.Warn("cannot watch the token file", telemetry.Exception(err)) },
		func() { t.reread(ctx, path) })
	t.background.Go(func() {
		t.reread(ctx, path) // it may have changed between being read and being watched
		<-watched
	})
}

// inForce is the set that a request is held to; nil asks for no token.
func (t *Tokens) inForce() *TokenSet {
	if t == nil {
		return nil
	}
	return t.current.Load()
}

// Close ends the watch. The tokens stay in force.
func (t *Tokens) Close() {
	t.mu.Lock()
	t.stop()
	t.stop, t.path = func() {}, ""
	t.mu.Unlock()
	t.background.Wait()
}

// reread takes up a changed file. A bad one must lock nobody out and let nobody in: the tokens before it
// stay in force.
func (t *Tokens) reread(ctx context.Context, path string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if ctx.Err() != nil {
		return // another file is in use by now
	}
	set, err := ReadTokens(path)
	if err == nil {
		t.put(set)
		return
	}
	var faults config.Faults
	errors.As(err, &faults)
	for _, fault := range faults {
		t.log.Warn("the token file was rejected; the tokens before it stay in force", zap.String("fault", fault.Error()))
	}
}

// put tells of a change only: a reload of the configuration reads the same tokens again and again.
func (t *Tokens) put(set *TokenSet) {
	before := t.current.Load()
	if before.same(set) {
		return
	}
	t.current.Store(set)
	if set == nil {
		t.log.Info("no token is asked for any more")
		return
	}
	t.log.Info("tokens are in force", zap.Strings("names", set.names()))
	if set.Warning != "" {
		t.log.Warn(set.Warning)
	}
}

func (s *TokenSet) same(other *TokenSet) bool {
	if s == nil || other == nil || len(s.tokens) != len(other.tokens) {
		return s == other
	}
	for i := range s.tokens {
		if s.tokens[i] != other.tokens[i] {
			return false
		}
	}
	return s.Warning == other.Warning
}

func (s *TokenSet) names() []string {
	var names []string
	for _, t := range s.tokens {
		names = append(names, t.name)
	}
	return names
}
