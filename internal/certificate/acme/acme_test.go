package acme

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
	"golang.org/x/crypto/acme"

	"weir/config"
	"weir/internal/certificate/acme/acmetest"
	"weir/internal/certificate/certificatetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// site is where the authority looks: a port for each of the challenges, at which the domains answer.
type site struct {
	t                 *testing.T
	tlsPort, httpPort int
	dir               string

	mu      sync.Mutex
	account *Account
	domains []*Domain
}

func newSite(t *testing.T) *site {
	s := &site{t: t, dir: t.TempDir()}
	secure, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{NextProtos: []string{ALPN}, GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
		s.mu.Lock()
		defer s.mu.Unlock()
		for _, d := range s.domains {
			if d.Name() == hello.ServerName {
				return d.Challenge(), nil
			}
		}
		return nil, nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	plain, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.tlsPort, s.httpPort = secure.Addr().(*net.TCPAddr).Port, plain.Addr().(*net.TCPAddr).Port
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := secure.Accept()
			if err != nil {
				return
			}
			_ = c.(*tls.Conn).Handshake()
			_ = c.Close()
		}
	}()
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		token, ok := strings.CutPrefix(q.URL.Path, "/.well-known/acme-challenge/")
		s.mu.Lock()
		defer s.mu.Unlock()
		if answer := s.account.Answer(token); ok && answer != nil {
			_, _ = w.Write(answer)
			return
		}
		http.NotFound(w, q)
	})}
	go func() { _ = server.Serve(plain) }()
	t.Cleanup(func() { _ = server.Close(); _ = secure.Close(); <-done })
	return s
}

func (s *site) config(a *acmetest.Server) config.ACME {
	return config.ACME{Email: "ops@example.com", Directory: a.Directory, Cache: filepath.Join(s.dir, "cache"), CA: a.CA, AcceptTerms: true}
}

// followed is a domain with what it tells.
type followed struct {
	*Domain
	t      *testing.T
	logs   *observer.ObservedLogs
	mu     sync.Mutex
	events []Event
}

// open makes a domain of an account of its own, as after a restart.
func (s *site) open(c config.ACME, name string, plain bool) *followed {
	s.t.Helper()
	a, err := OpenAccount(c)
	if err != nil {
		s.t.Fatal(err)
	}
	d, err := OpenDomain(a, name, plain)
	if err != nil {
		s.t.Fatal(err)
	}
	s.mu.Lock()
	s.account, s.domains = a, []*Domain{d}
	s.mu.Unlock()
	f := &followed{Domain: d, t: s.t}
	d.backoff = 200 * time.Millisecond
	d.Tell(func(e Event) {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.events = append(f.events, e)
	})
	return f
}

func (f *followed) start() {
	core, logs := observer.New(zap.InfoLevel)
	f.logs = logs
	f.Start(zap.New(core))
	f.t.Cleanup(f.Stop)
}

func (f *followed) told() []Event {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]Event(nil), f.events...)
}

func (f *followed) eventually(what string, ok func() bool) {
	f.t.Helper()
	for deadline := time.Now().Add(time.Minute); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			f.t.Fatalf("%s: not within a minute; told %+v, the log: %v", what, f.told(), f.logs.All())
		}
	}
}

func (f *followed) has() bool { return f.Certificate() != nil }

func verify(t *testing.T, c *tls.Certificate, name string, roots *x509.CertPool) {
	t.Helper()
	between := x509.NewCertPool()
	for _, der := range c.Certificate[1:] {
		one, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		between.AddCert(one)
	}
	if _, err := c.Leaf.Verify(x509.VerifyOptions{DNSName: name, Roots: roots, Intermediates: between, CurrentTime: c.Leaf.NotBefore}); err != nil {
		t.Errorf("the certificate: %v", err)
	}
}

// TestChallenges obtains a certificate by each kind, of which the other leads nowhere.
func TestChallenges(t *testing.T) {
	for _, kind := range []string{tlsALPN, http01} {
		t.Run(kind, func(t *testing.T) {
			s := newSite(t)
			o := acmetest.Options{TLSPort: s.tlsPort, HTTPPort: 1}
			if kind == http01 {
				o = acmetest.Options{TLSPort: 1, HTTPPort: s.httpPort}
			}
			a := acmetest.Start(t, o)
			f := s.open(s.config(a), "a.example.com", true)
			if f.has() || f.Fresh() || !strings.Contains(f.Reason(), "acme: a.example.com: there is no certificate yet") {
				t.Errorf("at first: %v %q", f.has(), f.Reason())
			}
			f.start()
			f.eventually("the certificate", f.has)
			f.eventually("the event", func() bool { return len(f.told()) == 1 })
			verify(t, f.Certificate(), "a.example.com", a.Roots())
			if e := f.told()[0]; e.Domain != "a.example.com" || e.Outcome != Obtained || !e.Expires.Equal(f.NotAfter()) || e.Why != "" {
				t.Errorf("told %+v", e)
			}
			if f.Reason() != "" || f.Outcomes()[Obtained] != 1 || f.Challenge() != nil || f.kinds[0] != kind {
				t.Errorf("after it: %q %v %v %v", f.Reason(), f.Outcomes(), f.Challenge(), f.kinds)
			}
			if line := f.logs.FilterMessage("a certificate was obtained").All(); len(line) != 1 || line[0].ContextMap()["challenge"] != kind {
				t.Errorf("the log: %v", f.logs.All())
			}
		})
	}
}

// TestRestart finds the certificate in the cache, which only its owner may read, and orders none.
func TestRestart(t *testing.T) {
	s := newSite(t)
	a := acmetest.Start(t, acmetest.Options{TLSPort: s.tlsPort, HTTPPort: 1})
	f := s.open(s.config(a), "a.example.com", false)
	f.start()
	f.eventually("the certificate", f.has)
	f.eventually("the event", func() bool { return len(f.told()) == 1 })
	f.Stop()
	files := 0
	err := filepath.Walk(s.config(a).Cache, func(path string, info os.FileInfo, err error) error {
		if err != nil {
			return err
		}
		if want := os.FileMode(0o600); !info.IsDir() {
			files++
			if info.Mode() != want {
				t.Errorf("%s has mode %v", path, info.Mode())
			}
		} else if info.Mode().Perm() != 0o700 {
			t.Errorf("%s has mode %v", path, info.Mode())
		}
		return nil
	})
	if err != nil || files != 2 {
		t.Errorf("%d files in the cache, want the key of the account and the certificate; %v", files, err)
	}
	again := s.open(s.config(a), "a.example.com", false)
	if !again.has() || !again.Certificate().Leaf.Equal(f.Certificate().Leaf) {
		t.Fatal("the certificate is not there at once")
	}
	again.start()
	again.Refresh()
	// Another name of the account, which exists by now. When it has its certificate the first would have a second one.
	other := s.open(s.config(a), "b.example.com", false)
	other.start()
	other.eventually("the certificate of another name", other.has)
	if n := again.Outcomes(); n[Obtained]+n[Renewed]+n[Failed] != 0 {
		t.Errorf("orders after the restart: %v", n)
	}
	// What is in the cache of one authority is not served for another.
	elsewhere := s.config(a)
	elsewhere.Directory += "2"
	if s.open(elsewhere, "a.example.com", false).has() {
		t.Error("another authority's certificate is used")
	}
}

// TestRenewal has certificates that last ten seconds.
func TestRenewal(t *testing.T) {
	s := newSite(t)
	a := acmetest.Start(t, acmetest.Options{TLSPort: s.tlsPort, HTTPPort: 1, Validity: 10 * time.Second})
	f := s.open(s.config(a), "a.example.com", false)
	f.start()
	f.eventually("the first", f.has)
	first := f.Certificate()
	f.eventually("two renewals", func() bool { return f.Outcomes()[Renewed] >= 2 })
	f.Stop()
	last := f.Certificate()
	if last.Leaf.Equal(first.Leaf) || !last.Leaf.NotAfter.After(first.Leaf.NotAfter) {
		t.Errorf("until %v, and the first until %v", last.Leaf.NotAfter, first.Leaf.NotAfter)
	}
	verify(t, last, "a.example.com", a.Roots())
	if n := f.Outcomes(); n[Obtained] != 1 {
		t.Errorf("outcomes %v", n)
	}
	text, err := os.ReadFile(f.File())
	if err != nil || !strings.Contains(string(text), string(pemOf(last))) {
		t.Errorf("the cache has another one than is in force: %v", err)
	}
}

func pemOf(c *tls.Certificate) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Certificate[0]})
}

// TestAuthorityIsAway: orders are tried again, less and less often, and the account is made anew where the authority has
// lost it.
func TestAuthorityIsAway(t *testing.T) {
	s := newSite(t)
	a := acmetest.Start(t, acmetest.Options{TLSPort: s.tlsPort, HTTPPort: 1, Validity: 10 * time.Second})
	f := s.open(s.config(a), "a.example.com", false)
	f.start()
	f.eventually("the first", f.has)
	a.Stop()
	f.eventually("three failures", func() bool { return f.Outcomes()[Failed] >= 3 })
	var before time.Time
	for _, e := range f.told() {
		if e.Outcome == Failed && (e.Why == "" || !e.Next.After(before)) {
			t.Errorf("told %+v", e)
		}
		before = e.Next
	}
	if !strings.Contains(f.Reason(), "next try at") {
		t.Errorf("reason %q", f.Reason())
	}
	a.Run() // with nothing of before
	f.eventually("a renewal", func() bool { return f.Outcomes()[Renewed] >= 1 && f.Fresh() })
	verify(t, f.Certificate(), "a.example.com", a.Roots())
}

// TestRefusedDomain: the reason is the authority's, in the log and in the status, and a neighbour is not harmed.
func TestRefusedDomain(t *testing.T) {
	s := newSite(t)
	a := acmetest.Start(t, acmetest.Options{TLSPort: 1, HTTPPort: 1, Blocked: []string{"blocked.example.com"}})
	for name, says := range map[string]string{
		"blocked.example.com": "policy", "nobody.example.com": "could not verify the domain",
	} {
		f := s.open(s.config(a), name, true)
		f.start()
		f.eventually("a failure", func() bool { return f.Outcomes()[Failed] >= 1 })
		f.Stop()
		if e := f.told()[0]; !strings.Contains(e.Why, says) || strings.ContainsAny(e.Why, "\n\r") {
			t.Errorf("%s: told %+v", name, e)
		}
		if r := f.Reason(); !strings.HasPrefix(r, "acme: "+name+": there is no certificate yet: ") {
			t.Errorf("reason %q", r)
		}
		if f.logs.FilterLevelExact(zap.WarnLevel).Len() == 0 {
			t.Errorf("the log: %v", f.logs.All())
		}
		if n := f.Outcomes()[Failed]; uint64(len(f.told())) != n {
			t.Errorf("%d failures, told %d", n, len(f.told()))
		}
	}
}

// TestStopDuringAnOrder: the end does not wait for an authority that hangs.
func TestStopDuringAnOrder(t *testing.T) {
	s := newSite(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	ca := certificatetest.New(t)
	file := filepath.Join(s.dir, "ca.crt")
	certificatetest.WriteFile(t, file, ca.PEM())
	f := s.open(config.ACME{Directory: fmt.Sprintf("https://%s/dir", l.Addr()), Cache: filepath.Join(s.dir, "cache"), CA: file}, "a.example.com", true)
	f.start()
	c, err := l.Accept() // and never a word
	if err != nil {
		t.Fatal(err)
	}
	f.Stop()
	if n := f.Outcomes()[Failed]; n != 0 || len(f.told()) != 0 {
		t.Errorf("%d failures, told %v", n, f.told())
	}
	_ = c.Close()
}

// TestCacheIsShared: what another weir has put there is used, and what is broken, expired or another name's is not.
func TestCacheIsShared(t *testing.T) {
	s := newSite(t)
	ca := certificatetest.New(t)
	c := config.ACME{Directory: "https://127.0.0.1:1/dir", Cache: filepath.Join(s.dir, "cache")} // nobody is there
	f := s.open(c, "a.example.com", false)
	f.start()
	if err := os.MkdirAll(filepath.Dir(f.File()), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, unfit := range []certificatetest.Pair{ca.Issue(t, -time.Minute, "a.example.com"), ca.Issue(t, time.Hour, "b.example.com"), {Cert: []byte("x")}} {
		certificatetest.WriteFile(t, f.File(), append(unfit.Key, unfit.Cert...))
		if err := f.look(time.Now()); err == nil || !strings.Contains(err.Error(), f.File()) {
			t.Errorf("look: %v", err)
		}
		if opened := s.open(c, "a.example.com", false); opened.has() {
			t.Error("it is used")
		}
	}
	good := ca.Issue(t, 30*24*time.Hour, "a.example.com")
	certificatetest.WriteFile(t, f.File(), append(good.Key, good.Cert...))
	f.Refresh()
	f.eventually("the other's certificate", f.has)
	if got := f.Certificate().Leaf.SerialNumber.Int64(); got != good.Serial {
		t.Errorf("serial %d, want %d", got, good.Serial)
	}
}

// TestDue renews with a third of the time left, or half of it where that is short.
func TestDue(t *testing.T) {
	for _, tt := range []struct{ lasts, left time.Duration }{
		{90 * 24 * time.Hour, 30 * 24 * time.Hour}, {6 * 24 * time.Hour, 3 * 24 * time.Hour},
	} {
		from := time.Now().Truncate(time.Second)
		d := &Domain{}
		d.current.Store(&tls.Certificate{Leaf: &x509.Certificate{NotBefore: from, NotAfter: from.Add(tt.lasts)}})
		if got := d.NotAfter().Sub(d.due(0)); got != tt.left {
			t.Errorf("of %s: with %s left, want %s", tt.lasts, got, tt.left)
		}
		if early := d.due(0).Sub(d.due(1)); early != tt.lasts/50 {
			t.Errorf("of %s: at most %s early", tt.lasts, early)
		}
	}
	if !(&Domain{}).due(0.5).IsZero() {
		t.Error("without a certificate it is not due at once")
	}
}

// TestBackoff doubles the time to the next try up to six hours, and heeds an authority that asks for more.
func TestBackoff(t *testing.T) {
	s := newSite(t)
	f := s.open(config.ACME{Directory: config.LetsEncrypt, Cache: filepath.Join(s.dir, "cache")}, "a.example.com", false)
	f.log, f.backoff = zap.NewNop(), backoffLeast
	busy := &acme.Error{ProblemType: "urn:ietf:params:acme:error:rateLimited", Header: http.Header{"Retry-After": {"86400"}}}
	for _, tt := range []struct {
		failures int
		err      error
		wait     time.Duration
	}{
		{1, errRefused, time.Minute}, {2, errRefused, 2 * time.Minute}, {5, errRefused, 16 * time.Minute},
		{10, errRefused, 6 * time.Hour}, {1000, errRefused, 6 * time.Hour}, {1, fmt.Errorf("tls-alpn-01: %w", errors.Join(busy)), 24 * time.Hour},
	} {
		before := time.Now()
		next := f.fails(tt.err, tt.failures)
		if least, most := next.Sub(before), time.Until(next); least < tt.wait || most > tt.wait+tt.wait/10 {
			t.Errorf("%d failures, %v: %s, want %s and up to a tenth more", tt.failures, tt.err, most, tt.wait)
		}
	}
}

func TestOpenSaysWhatIsWrong(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	certificatetest.WriteFile(t, file, []byte("x"))
	broken := filepath.Join(dir, "broken")
	c := config.ACME{Directory: config.LetsEncrypt, Cache: broken}
	a, err := OpenAccount(c)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(broken); !os.IsNotExist(err) {
		t.Errorf("opening has made the cache: %v", err)
	}
	if err := os.MkdirAll(a.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	certificatetest.WriteFile(t, a.keyFile(), []byte("x"))
	for want, c := range map[string]config.ACME{
		"is a file; want a directory": {Directory: config.LetsEncrypt, Cache: file},
		"has no certificate":          {Directory: config.LetsEncrypt, Cache: dir, CA: file},
		"cannot be read":              {Directory: config.LetsEncrypt, Cache: dir, CA: filepath.Join(dir, "none")},
		"holds no private key":        c,
	} {
		if _, err := OpenAccount(c); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}
