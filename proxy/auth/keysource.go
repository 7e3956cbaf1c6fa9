package auth

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"weir/internal/telemetry"
)

// KeySource is where a key set comes from.
type KeySource interface {
	// Current is the set in force; nil while none has come yet.
	Current() *KeySet
	// Miss says that a token named a key that the set does not have. It never waits.
	Miss()
	Name() string
	Fresh() bool
	Start(log *zap.Logger)
	Stop()
}

// OpenKeys returns the source at a place: the path of a file, which is read now, or an http(s) URL, which is
// asked from Start on, each refresh.
func OpenKeys(place string, refresh time.Duration) (KeySource, error) {
	if !strings.HasPrefix(place, "https://") && !strings.HasPrefix(place, "http://") {
		f, err := Open(place, ParseKeySet)
		return keyFile{f}, err
	}
	u, err := url.Parse(place)
	if err != nil || u.Host == "" {
		return nil, errors.New("the URL of the key set is no URL") // what is wrong with it would quote it
	}
	return newKeyURL(u, refresh), nil
}

// keyFile is a key set in a file. Its changes are seen at once, so that nothing is gained by looking for a key.
type keyFile struct{ *File[KeySet] }

func (keyFile) Miss() {}

// keyURL is a key set that is fetched, in the background: requests have what has come last.
type keyURL struct {
	url     *url.URL
	name    string
	refresh time.Duration
	pause   time.Duration // between two looks for a key that was missed, and after a look that failed
	client  *http.Client

	current atomic.Pointer[KeySet]
	failed  atomic.Bool
	missed  chan struct{} // holds one

	cancel context.CancelFunc
	ended  sync.WaitGroup
}

const (
	fetchTimeout = 10 * time.Second
	fetchPause   = 30 * time.Second
	firstPause   = time.Second // after a look that failed while there is no set at all; it doubles
	maxKeySet    = 1 << 20
)

func newKeyURL(u *url.URL, refresh time.Duration) *keyURL {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.DisableKeepAlives = true
	return &keyURL{
		url: u, refresh: refresh, pause: fetchPause, missed: make(chan struct{}, 1),
		name:   (&url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path}).String(), // the rest may be secret
		client: &http.Client{Timeout: fetchTimeout, Transport: transport, CheckRedirect: sameOrigin},
	}
}

// sameOrigin keeps a look from being sent elsewhere: who may answer for that place decides who is let in.
func sameOrigin(to *http.Request, via []*http.Request) error {
	if len(via) > 3 || to.URL.Scheme != via[0].URL.Scheme || to.URL.Host != via[0].URL.Host {
		return errors.New("redirected to another place")
	}
	return nil
}

func (s *keyURL) Current() *KeySet { return s.current.Load() }
func (s *keyURL) Name() string     { return s.name }
func (s *keyURL) Fresh() bool      { return !s.failed.Load() && s.current.Load() != nil }

func (s *keyURL) Miss() {
	select {
	case s.missed <- struct{}{}:
	default:
	}
}

func (s *keyURL) Start(log *zap.Logger) {
	ctx, cancel := context.WithCancel(context.Background())
	s.cancel = cancel
	s.ended.Go(func() { s.run(ctx, log) })
}

func (s *keyURL) Stop() {
	if s.cancel != nil {
		s.cancel()
		s.ended.Wait()
	}
}

// run looks at once, each refresh, sooner after a failure, and for a key that was missed, but never twice within
// a pause.
func (s *keyURL) run(ctx context.Context, log *zap.Logger) {
	told, wait := "", min(firstPause, s.pause)
	for {
		err := s.fetch(ctx)
		if ctx.Err() != nil {
			return
		}
		s.failed.Store(err != nil)
		last := time.Now()
		next := s.refresh - rand.N(s.refresh/10+1) // not all weirs at one time
		if err == nil {
			told = ""
			s.noted() // what was missed until now, this look was for
		} else {
			if told != err.Error() {
				told = err.Error()
				log.Warn("a key set cannot be fetched", telemetry.Exception(err), zap.String("url", s.name), zap.Bool("have_older", s.current.Load() != nil))
			}
			next = min(next, s.pause)
			if s.current.Load() == nil {
				next = min(next, wait)
				wait = min(2*wait, s.pause)
			}
		}
		if !s.sleep(ctx, last, next) {
			return
		}
	}
}

func (s *keyURL) noted() {
	select {
	case <-s.missed:
	default:
	}
}

// sleep waits for the next look; false when there is none.
func (s *keyURL) sleep(ctx context.Context, last time.Time, next time.Duration) bool {
	timer := time.NewTimer(next)
	defer timer.Stop()
	for missed := s.missed; ; {
		select {
		case <-ctx.Done():
			return false
		case <-timer.C:
			return true
		case <-missed:
			missed = nil // one is enough
			timer.Reset(max(min(s.pause, next)-time.Since(last), 0))
		}
	}
}

func (s *keyURL) fetch(ctx context.Context) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url.String(), nil)
	if err != nil {
		return errors.New("no request can be made of the URL")
	}
	request.Header.Set("Accept", "application/jwk-set+json, application/json")
	answer, err := s.client.Do(request)
	if err != nil {
		if cause := (*url.Error)(nil); errors.As(err, &cause) {
			err = cause.Err // without the URL
		}
		return err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("status %d", answer.StatusCode)
	}
	data, err := io.ReadAll(io.LimitReader(answer.Body, maxKeySet+1))
	if err != nil {
		return err
	}
	if len(data) > maxKeySet {
		return fmt.Errorf("it is larger than %d MiB", maxKeySet>>20)
	}
	set, err := ParseKeySet(data)
	if err != nil {
		return err
	}
	if !set.equal(s.current.Load()) {
		s.current.Store(set)
	}
	return nil
}
