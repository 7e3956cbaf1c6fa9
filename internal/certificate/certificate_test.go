package certificate

import (
	"crypto/tls"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"weir/internal/certificate/certificatetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// server speaks TLS with the pair of a Watcher.
type server struct {
	t       *testing.T
	ca      *certificatetest.Authority
	watcher *Watcher
	address string
	logs    *observer.ObservedLogs
}

func serve(t *testing.T, ca *certificatetest.Authority, cert, key string, o Options) *server {
	t.Helper()
	core, logs := observer.New(zap.InfoLevel)
	o.Log = zap.New(core)
	w, err := watch(cert, key, o, 500*time.Millisecond, 300*time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Close)
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: w.GetCertificate})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_ = c.(*tls.Conn).Handshake() // the client tells what came of it
			_ = c.Close()
		}
	}()
	t.Cleanup(func() { _ = l.Close(); <-done })
	return &server{t: t, ca: ca, watcher: w, address: l.Addr().String(), logs: logs}
}

// serial is that of the certificate a client gets, which trusts the authority alone.
func (s *server) serial() int64 {
	s.t.Helper()
	c, err := tls.DialWithDialer(&net.Dialer{Timeout: 5 * time.Second}, "tcp", s.address, &tls.Config{RootCAs: s.ca.Pool(), ServerName: "localhost"})
	if err != nil {
		s.t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	return c.ConnectionState().PeerCertificates[0].SerialNumber.Int64()
}

func (s *server) eventually(what string, ok func() bool) {
	s.t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			s.t.Fatalf("%s: not within 20 s; the log: %v", what, s.logs.All())
		}
	}
}

func (s *server) warned(part string) func() bool {
	return func() bool {
		for _, e := range s.logs.FilterLevelExact(zap.WarnLevel).All() {
			if text := e.ContextMap()["exception"].(map[string]any)["message"].(string); strings.Contains(text, part) {
				return true
			}
		}
		return false
	}
}

func TestRenewedPairIsInForceWithoutARestart(t *testing.T) {
	ca, dir := certificatetest.New(t), t.TempDir()
	first := ca.Issue(t, time.Hour)
	cert, key := first.Write(t, dir)
	s := serve(t, ca, cert, key, Options{})
	if got := s.serial(); got != first.Serial {
		t.Fatalf("serial %d, want %d", got, first.Serial)
	}
	second := ca.Issue(t, 2*time.Hour, "weir.example.com")
	second.Write(t, dir)
	s.eventually("the second certificate", func() bool { return s.serial() == second.Serial })
	if left := time.Until(s.watcher.NotAfter()); left < 90*time.Minute {
		t.Errorf("NotAfter is in %s", left)
	}
	if n := s.logs.FilterMessage("a new certificate is in force").Len(); n != 1 {
		t.Errorf("%d lines about one swap", n)
	}
}

// TestCertificateBeforeKey replaces the two files one after the other: what is served is a whole pair at
// every moment.
func TestCertificateBeforeKey(t *testing.T) {
	ca, dir := certificatetest.New(t), t.TempDir()
	first, second := ca.Issue(t, time.Hour), ca.Issue(t, time.Hour)
	cert, key := first.Write(t, dir)
	s := serve(t, ca, cert, key, Options{})

	certificatetest.WriteFile(t, cert, second.Cert)
	s.eventually("a warning", s.warned("are no pair"))
	if got := s.serial(); got != first.Serial {
		t.Errorf("serial %d of half a renewal, want %d", got, first.Serial)
	}
	if line := s.logs.FilterLevelExact(zap.WarnLevel).All()[0].ContextMap(); line["file"] != cert || strings.Contains(line["exception"].(map[string]any)["message"].(string), "PRIVATE") {
		t.Errorf("the warning: %v", line)
	}
	certificatetest.WriteFile(t, key, second.Key)
	s.eventually("the second pair", func() bool { return s.serial() == second.Serial })
}

// TestQuickRenewalIsNoWarning leaves less time between the two files than a warning takes.
func TestQuickRenewalIsNoWarning(t *testing.T) {
	ca, dir := certificatetest.New(t), t.TempDir()
	cert, key := ca.Issue(t, time.Hour).Write(t, dir)
	s := serve(t, ca, cert, key, Options{})
	second := ca.Issue(t, time.Hour)
	certificatetest.WriteFile(t, cert, second.Cert)
	time.Sleep(100 * time.Millisecond)
	certificatetest.WriteFile(t, key, second.Key)
	s.eventually("the second pair", func() bool { return s.serial() == second.Serial })
	time.Sleep(time.Second) // more than it takes to warn
	if n := s.logs.FilterLevelExact(zap.WarnLevel).Len(); n != 0 {
		t.Errorf("warnings: %v", s.logs.All())
	}
}

func TestUnfitPairsKeepTheOldOne(t *testing.T) {
	ca := certificatetest.New(t)
	expired := ca.Issue(t, -time.Minute)
	for name, tt := range map[string]struct {
		cert, key []byte
		says      string
	}{
		"expired": {expired.Cert, expired.Key, "expired at"},
		"no PEM":  {[]byte("hello"), []byte("hello"), "are no pair"},
		"cut off": {ca.Issue(t, time.Hour).Cert[:200], nil, "are no pair"},
		"empty":   {nil, nil, "are no pair"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			first := ca.Issue(t, time.Hour)
			cert, key := first.Write(t, dir)
			s := serve(t, ca, cert, key, Options{})
			certificatetest.WriteFile(t, cert, tt.cert)
			certificatetest.WriteFile(t, key, tt.key)
			s.eventually("a warning", s.warned(tt.says))
			if got := s.serial(); got != first.Serial {
				t.Errorf("serial %d, want the old %d", got, first.Serial)
			}
			good := ca.Issue(t, time.Hour)
			good.Write(t, dir)
			s.eventually("the good pair after it", func() bool { return s.serial() == good.Serial })
		})
	}
}

// TestPairThatBecomesValid is taken up when its time comes: nothing changes then that could be watched.
func TestPairThatBecomesValid(t *testing.T) {
	ca, dir := certificatetest.New(t), t.TempDir()
	cert, key := ca.Issue(t, 48*time.Hour).Write(t, dir)
	var ahead atomic.Int64
	s := serve(t, ca, cert, key, Options{Now: func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }})
	later := ca.IssueFrom(t, time.Now().Add(time.Hour), time.Now().Add(48*time.Hour))
	later.Write(t, dir)
	s.eventually("a warning", s.warned("is not valid before"))
	ahead.Store(int64(2 * time.Hour))
	s.eventually("the pair", func() bool { return s.watcher.Certificate().Leaf.SerialNumber.Int64() == later.Serial })
}

// TestSecretOfKubernetes swaps the ..data link, which changes both files at once.
func TestSecretOfKubernetes(t *testing.T) {
	ca, dir := certificatetest.New(t), t.TempDir()
	publish := func(version string, p certificatetest.Pair) {
		t.Helper()
		if err := os.Mkdir(filepath.Join(dir, version), 0o700); err != nil {
			t.Fatal(err)
		}
		p.Write(t, filepath.Join(dir, version))
		link := filepath.Join(dir, "..data_tmp")
		if err := os.Symlink(version, link); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(link, filepath.Join(dir, "..data")); err != nil {
			t.Fatal(err)
		}
	}
	first, second := ca.Issue(t, time.Hour), ca.Issue(t, time.Hour)
	publish("..2026_01", first)
	cert, key := filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key")
	for _, file := range []string{cert, key} {
		if err := os.Symlink(filepath.Join("..data", filepath.Base(file)), file); err != nil {
			t.Fatal(err)
		}
	}
	s := serve(t, ca, cert, key, Options{})
	publish("..2026_02", second)
	if err := os.RemoveAll(filepath.Join(dir, "..2026_01")); err != nil {
		t.Fatal(err)
	}
	s.eventually("the second pair", func() bool { return s.serial() == second.Serial })
	if n := s.logs.FilterLevelExact(zap.WarnLevel).Len(); n != 0 {
		t.Errorf("warnings: %v", s.logs.All())
	}
}

func TestWatchRefusesWhatIsUnfitFromTheStart(t *testing.T) {
	ca, dir := certificatetest.New(t), t.TempDir()
	cert, key := ca.Issue(t, -time.Minute).Write(t, dir)
	f := func(cert, key, says string) {
		t.Helper()
		if _, err := Watch(cert, key, Options{}); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s, %s: %v, want %q", cert, key, err, says)
		}
	}
	f(cert, key, "tls.crt expired at")
	f(filepath.Join(dir, "none"), key, "none cannot be read: no such file")
	f(cert, filepath.Join(dir, "none"), "none cannot be read: no such file")
	f(key, cert, "are no pair")
}

func TestExpiryMetric(t *testing.T) {
	ca, dir := certificatetest.New(t), t.TempDir()
	cert, key := ca.Issue(t, time.Hour).Write(t, dir)
	w, err := Watch(cert, key, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(NewCollector(func() []Served { return []Served{w, w} }))
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	if len(families) != 1 || len(families[0].GetMetric()) != 1 || families[0].GetName() != "weir_certificate_expiry_timestamp_seconds" {
		t.Fatalf("%v", families)
	}
	metric := families[0].GetMetric()[0]
	if got := metric.GetGauge().GetValue(); got != float64(w.NotAfter().Unix()) || metric.GetLabel()[0].GetValue() != cert {
		t.Errorf("%v", metric)
	}
	if problems, err := testutil.GatherAndLint(registry); err != nil || len(problems) > 0 {
		t.Errorf("lint: %v, %v", problems, err)
	}
}
