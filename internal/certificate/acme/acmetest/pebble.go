// Package acmetest runs pebble, the authority that Let's Encrypt tests clients with, on loopback. Its version is that
// of tools/go.mod. It verifies challenges as an authority does, by connecting to the domain; every domain is at 127.0.0.1.
package acmetest

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"weir/internal/certificate/certificatetest"
)

// Options are those of an authority.
type Options struct {
	// TLSPort and HTTPPort are where TLS-ALPN-01 and HTTP-01 are looked for.
	TLSPort, HTTPPort int
	// Validity is how long certificates last. Default: 90 days.
	Validity time.Duration
	// Blocked are domains that get no certificate.
	Blocked []string
}

// Server is an authority.
type Server struct {
	// Directory is its URL.
	Directory string
	// CA is the path of a PEM file with who vouches for the directory.
	CA string

	t          testing.TB
	client     *http.Client
	management string
	config     string
	dns        string
	cmd        *exec.Cmd
	out        *output
}

// Start runs one until the end of the test, or Stop.
func Start(t testing.TB, o Options) *Server {
	t.Helper()
	if o.Validity == 0 {
		o.Validity = 90 * 24 * time.Hour
	}
	s := &Server{t: t, dns: nameServer(t)}
	dir := t.TempDir()
	ca := certificatetest.New(t)
	cert, key := ca.Issue(t, time.Hour).Write(t, dir)
	s.CA = filepath.Join(dir, "directory-ca.crt")
	certificatetest.WriteFile(t, s.CA, ca.PEM())
	s.client = &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: ca.Pool()}, DisableKeepAlives: true}}
	listen, management := freeAddress(t), freeAddress(t)
	s.Directory, s.management = "https://"+listen+"/dir", "https://"+management
	text, err := json.Marshal(map[string]any{"pebble": map[string]any{
		"listenAddress": listen, "managementListenAddress": management, "certificate": cert, "privateKey": key,
		"httpPort": o.HTTPPort, "tlsPort": o.TLSPort, "domainBlocklist": o.Blocked, "keyAlgorithm": "ecdsa",
		"retryAfter": map[string]int{"authz": 1, "order": 1},
		"profiles":   map[string]any{"default": map[string]any{"description": "of a test", "validityPeriod": int(o.Validity.Seconds())}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	s.config = filepath.Join(dir, "pebble.json")
	certificatetest.WriteFile(t, s.config, text)
	s.Run()
	t.Cleanup(func() {
		s.Stop()
		if t.Failed() {
			t.Logf("pebble:\n%s", s.out.text())
		}
	})
	return s
}

// Run starts it, again after a Stop: it then knows nothing of before.
func (s *Server) Run() {
	s.t.Helper()
	s.out = new(output)
	s.cmd = exec.Command(program(s.t), "-config", s.config, "-dnsserver", s.dns)
	s.cmd.Env = append(os.Environ(), "PEBBLE_VA_NOSLEEP=1", "PEBBLE_AUTHZREUSE=0")
	s.cmd.Stdout, s.cmd.Stderr = s.out, s.out
	if err := s.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
		resp, err := s.client.Get(s.Directory)
		if err == nil {
			_ = resp.Body.Close()
			return
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("pebble does not answer: %v\n%s", err, s.out.text())
		}
	}
}

// Stop ends it.
func (s *Server) Stop() {
	if s.cmd == nil {
		return
	}
	_ = s.cmd.Process.Kill()
	_ = s.cmd.Wait()
	s.cmd = nil
}

// Log is what it has written.
func (s *Server) Log() string { return s.out.text() }

// Roots are who vouches for the certificates that this run issues.
func (s *Server) Roots() *x509.CertPool {
	s.t.Helper()
	resp, err := s.client.Get(s.management + "/roots/0")
	if err != nil {
		s.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	pool := x509.NewCertPool()
	if err != nil || !pool.AppendCertsFromPEM(text) {
		s.t.Fatalf("the root: %v %q", err, text)
	}
	return pool
}

type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

func (o *output) text() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

var built struct {
	once sync.Once
	path string
	err  error
}

// program is pebble, which go build keeps in its cache.
func program(t testing.TB) string {
	t.Helper()
	built.once.Do(func() {
		mod, err := exec.Command("go", "env", "GOMOD").Output()
		if err != nil {
			built.err = err
			return
		}
		root := filepath.Dir(strings.TrimSpace(string(mod)))
		tool := exec.Command("go", "tool", "-modfile="+filepath.Join(root, "tools", "go.mod"), "-n", "pebble")
		tool.Dir = root
		out, err := tool.CombinedOutput()
		lines := strings.Split(strings.TrimSpace(string(out)), "\n")
		built.path = lines[len(lines)-1]
		if err != nil {
			built.err = fmt.Errorf("%w: %s", err, out)
		}
	})
	if built.err != nil {
		t.Fatalf("pebble cannot be built: %v", built.err)
	}
	return built.path
}

// freeAddress is one of 127.0.0.1 that nobody listens at.
func freeAddress(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().String()
}

// nameServer answers that every name is 127.0.0.1. It is asked over TCP, as pebble asks.
func nameServer(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var running sync.WaitGroup
	t.Cleanup(func() { _ = l.Close(); running.Wait() })
	running.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			running.Go(func() { answer(c) })
		}
	})
	return l.Addr().String()
}

// answer answers the queries on one connection.
func answer(c net.Conn) {
	defer func() { _ = c.Close() }()
	_ = c.SetDeadline(time.Now().Add(time.Minute))
	for {
		var size [2]byte
		if _, err := io.ReadFull(c, size[:]); err != nil {
			return
		}
		query := make([]byte, binary.BigEndian.Uint16(size[:]))
		if _, err := io.ReadFull(c, query); err != nil {
			return
		}
		reply := resolve(query)
		if reply == nil {
			return
		}
		if _, err := c.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(reply))), reply...)); err != nil {
			return
		}
	}
}

func resolve(query []byte) []byte {
	var m dnsmessage.Message
	if m.Unpack(query) != nil || len(m.Questions) != 1 {
		return nil
	}
	q := m.Questions[0]
	reply := dnsmessage.Message{Header: dnsmessage.Header{ID: m.ID, Response: true, RecursionAvailable: true}, Questions: m.Questions}
	if q.Type == dnsmessage.TypeA {
		reply.Answers = []dnsmessage.Resource{{
			Header: dnsmessage.ResourceHeader{Name: q.Name, Type: q.Type, Class: q.Class, TTL: 1},
			Body:   &dnsmessage.AResource{A: [4]byte{127, 0, 0, 1}},
		}}
	}
	packed, err := reply.Pack()
	if err != nil {
		return nil
	}
	return packed
}
