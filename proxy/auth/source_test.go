package auth

import (
	"crypto"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s: waited in vain", what)
		}
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path+".new", []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

// TestFileIsFollowed: a new content comes into force, a wrong one leaves the old, and no log tells a key.
func TestFileIsFollowed(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys")
	write(t, path, "acme:first-key\n")
	f, err := Open(path, ParseKeys)
	if err != nil {
		t.Fatal(err)
	}
	write(t, path, "acme:second-key\n") // before it is followed
	core, logs := observer.New(zap.DebugLevel)
	f.Start(zap.New(core))
	defer f.Stop()
	has := func(key string) bool { _, ok := f.Current().Find([]byte(key)); return ok }
	eventually(t, "the second key", func() bool { return has("second-key") && !has("first-key") })
	write(t, path, "acme:third-key\nnonsense\n")
	eventually(t, "the refusal", func() bool { return !f.Fresh() })
	if !has("second-key") || has("third-key") {
		t.Error("a wrong file took the place of a right one")
	}
	write(t, path, "beta:fourth-key\n")
	eventually(t, "the fourth key", func() bool { return has("fourth-key") && !has("second-key") && f.Fresh() })
	for _, e := range logs.All() {
		if line := fmt.Sprint(e.Message, e.ContextMap()); strings.Contains(line, "-key") {
			t.Errorf("a log tells a key: %s", line)
		}
	}
	if logs.FilterLevelExact(zap.WarnLevel).Len() != 1 {
		t.Errorf("%d warnings, want 1", logs.FilterLevelExact(zap.WarnLevel).Len())
	}
}

func TestOpenRefuses(t *testing.T) {
	dir := t.TempDir()
	large := filepath.Join(dir, "large")
	if err := os.WriteFile(large, make([]byte, maxFile+1), 0o600); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{filepath.Join(dir, "none"): "no such file", dir: "name a regular file", large: "larger than"} {
		if _, err := Open(path, ParseKeys); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), path) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

// issuer serves key sets.
type issuer struct {
	*httptest.Server
	asked atomic.Int32
	mu    sync.Mutex
	serve http.HandlerFunc
}

func newIssuer(t *testing.T) *issuer {
	i := &issuer{serve: http.NotFound}
	i.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		i.mu.Lock()
		serve := i.serve
		i.mu.Unlock()
		serve(w, r)
		i.asked.Add(1)
	}))
	t.Cleanup(i.Close)
	return i
}

func (i *issuer) serves(f http.HandlerFunc) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.serve = f
}

func (i *issuer) publishes(t *testing.T, id string, key crypto.PublicKey) {
	data := document(t, published(t, key, id))
	i.serves(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(data) })
}

func startedURL(t *testing.T, place string, refresh, pause time.Duration) (*keyURL, *observer.ObservedLogs) {
	t.Helper()
	u, err := url.Parse(place)
	if err != nil {
		t.Fatal(err)
	}
	s := newKeyURL(u, refresh)
	s.pause = pause
	core, logs := observer.New(zap.DebugLevel)
	s.Start(zap.New(core))
	t.Cleanup(s.Stop)
	return s, logs
}

func (s *keyURL) has(id string) bool {
	set := s.Current()
	if set == nil {
		return false
	}
	_, named := set.fitting("RS256", id)
	return named
}

// TestKeysAreFetched: at once, each refresh, and what came last stays while nothing better comes.
func TestKeysAreFetched(t *testing.T) {
	k, i := newKeyring(t), newIssuer(t)
	i.publishes(t, "one", &k.rsa.PublicKey)
	s, logs := startedURL(t, i.URL+"/keys?token=hush", 20*time.Millisecond, time.Millisecond)
	eventually(t, "the first set", func() bool { return s.has("one") && s.Fresh() })
	first := s.Current()
	asked := i.asked.Load()
	eventually(t, "two looks", func() bool { return i.asked.Load() > asked+2 })
	if s.Current() != first {
		t.Error("the same keys took the place of themselves: what they verified is forgotten")
	}
	for name, bad := range map[string]http.HandlerFunc{
		"an error": http.NotFound,
		"no keys":  func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(`{"keys":[]}`)) },
		"too much": func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(make([]byte, maxKeySet+1)) },
		"another place": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://127.0.0.1:1/", http.StatusFound)
		},
	} {
		i.serves(bad)
		eventually(t, name, func() bool { return !s.Fresh() })
		if !s.has("one") {
			t.Errorf("%s: the keys are gone", name)
		}
		i.publishes(t, "one", &k.rsa.PublicKey)
		eventually(t, "recovery", s.Fresh)
	}
	i.publishes(t, "two", &k.rsa.PublicKey)
	eventually(t, "the second set", func() bool { return s.has("two") && !s.has("one") })
	for _, e := range logs.All() {
		if line := fmt.Sprint(e.Message, e.ContextMap()); strings.Contains(line, "hush") {
			t.Errorf("a log tells what the URL holds: %s", line)
		}
	}
	if strings.Contains(s.Name(), "hush") {
		t.Errorf("so does the name: %s", s.Name())
	}
}

// TestMissedKeys: a key that is not known has the set looked at again, but not as often as somebody likes.
func TestMissedKeys(t *testing.T) {
	k, i := newKeyring(t), newIssuer(t)
	i.publishes(t, "one", &k.rsa.PublicKey)
	const pause = 300 * time.Millisecond
	s, _ := startedURL(t, i.URL, time.Hour, pause)
	eventually(t, "the first set", func() bool { return s.has("one") })
	i.publishes(t, "two", &k.rsa.PublicKey)
	from := time.Now()
	for !s.has("two") {
		s.Miss()
		if time.Since(from) > 10*time.Second {
			t.Fatal("it was never looked for")
		}
		time.Sleep(time.Millisecond)
	}
	for time.Since(from) < 4*pause {
		s.Miss()
		time.Sleep(time.Millisecond)
	}
	if n := i.asked.Load(); n > 6 { // one at first, and one in each pause
		t.Errorf("it was asked %d times", n)
	}
}

// TestKeysThatDoNotComeYet: an issuer that starts after weir is asked soon, and a hanging one holds nobody up.
func TestKeysThatDoNotComeYet(t *testing.T) {
	k, i := newKeyring(t), newIssuer(t)
	s, logs := startedURL(t, i.URL, time.Hour, 20*time.Millisecond)
	eventually(t, "three looks", func() bool { return i.asked.Load() > 3 })
	if s.Current() != nil || s.Fresh() {
		t.Error("there are keys")
	}
	if n := logs.FilterLevelExact(zap.WarnLevel).Len(); n != 1 {
		t.Errorf("%d warnings of one thing", n)
	}
	i.publishes(t, "one", &k.rsa.PublicKey)
	eventually(t, "the set", func() bool { return s.has("one") })

	hang := make(chan struct{})
	defer close(hang)
	i.serves(func(http.ResponseWriter, *http.Request) { <-hang })
	slow, _ := startedURL(t, i.URL, time.Hour, time.Millisecond)
	slow.Miss()
	from := time.Now()
	slow.Stop()
	if d := time.Since(from); d > 2*time.Second {
		t.Errorf("stopping took %v", d)
	}
}

func TestOpenKeys(t *testing.T) {
	if _, err := OpenKeys("https:///keys?secret", time.Minute); err == nil || strings.Contains(err.Error(), "secret") {
		t.Errorf("a URL without a host: %v", err)
	}
	path := filepath.Join(t.TempDir(), "keys.json")
	k := newKeyring(t)
	write(t, path, string(document(t, published(t, &k.rsa.PublicKey, "file"))))
	s, err := OpenKeys(path, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	s.Miss()
	if _, named := s.Current().fitting("RS256", "file"); !named || s.Name() != path || !s.Fresh() {
		t.Error("the file's keys are not there")
	}
	if _, err := OpenKeys(path+"x", time.Minute); err == nil {
		t.Error("a file that is not there was accepted")
	}
}
