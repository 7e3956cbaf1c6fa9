package proxy_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"golang.org/x/crypto/bcrypt"

	"weir/config"
)

// file writes a file and returns its path.
func file(t testing.TB, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	rewrite(t, path, text)
	return path
}

func rewrite(t testing.TB, path, text string) {
	t.Helper()
	if err := os.WriteFile(path+".new", []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

func htpasswd(t testing.TB, name, password string, cost int) string {
	t.Helper()
	hash, err := bcrypt.GenerateFromPassword([]byte(password), cost)
	if err != nil {
		t.Fatal(err)
	}
	return name + ":" + string(hash) + "\n"
}

// costOf is the cost of a password whose look takes at least d here, and less than twice that.
func costOf(t testing.TB, d time.Duration) int {
	t.Helper()
	cost, took := 6, time.Hour
	for range 3 {
		from := time.Now()
		htpasswd(t, "x", "x", cost)
		took = min(took, time.Since(from))
	}
	for ; took < d; took *= 2 {
		cost++
	}
	return cost
}

func basic(name, password string) string {
	return "Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte(name+":"+password)) + "\r\n"
}

// issuer signs tokens.
type issuer struct {
	key *ecdsa.PrivateKey
	set string // its public key
}

func newIssuer(t testing.TB) *issuer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	point, err := key.PublicKey.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	half := func(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }
	return &issuer{key, fmt.Sprintf(`{"keys":[{"kty":"EC","crv":"P-256","kid":"k","x":%q,"y":%q}]}`, half(point[1:33]), half(point[33:]))}
}

func (i *issuer) token(t testing.TB, sub string, expires time.Time) string {
	t.Helper()
	token := jwt.NewWithClaims(jwt.SigningMethodES256, jwt.MapClaims{"iss": "i", "aud": "weir", "sub": sub, "exp": expires.Unix(), "tenant": "acme"})
	token.Header["kid"] = "k"
	s, err := token.SignedString(i.key)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func (i *issuer) bearer(t testing.TB, sub string, expires time.Time) string {
	return "Authorization: Bearer " + i.token(t, sub, expires) + "\r\n"
}

func jwtAuth(place string) *config.JWTAuth {
	return &config.JWTAuth{JWKS: place, Refresh: time.Hour, Issuer: "i", Audience: "weir", Algorithms: []string{"ES256", "RS256"}, Leeway: time.Second}
}

func TestEdgeAuth(t *testing.T) {
	var log lockedBuffer
	ep, iss := newEndpoint(t, serveOK), newIssuer(t)
	r := start(t, setup{endpoints: []string{ep.addr}, log: &log, change: func(c *config.Config) {
		c.Routes[0].Auth = &config.Auth{
			Basic:  &config.BasicAuth{File: file(t, "users", htpasswd(t, "alice", "wonder:land", bcrypt.MinCost)), Realm: `the "lab"`},
			APIKey: &config.APIKeyAuth{Header: "X-API-Key", File: file(t, "keys", "acme:0123456789abcdef\n")},
			JWT:    jwtAuth(file(t, "keys.json", iss.set)),
		}
	}})
	soon, over := time.Now().Add(time.Minute), time.Now().Add(-time.Minute)
	const key = "X-API-Key: 0123456789abcdef\r\n"
	challenges := `Basic realm="the \"lab\"", charset="UTF-8" | ApiKey header="X-API-Key" | Bearer`
	cl, users := r.dial(t), []string(nil)
	for _, c := range []struct {
		name, lines, user, challenge string
	}{
		{"a key", key, "acme", ""},
		{"a password", basic("alice", "wonder:land"), "alice", ""},
		{"the password again", strings.Replace(basic("alice", "wonder:land"), "Basic", "bASIC ", 1), "alice", ""},
		{"a token", iss.bearer(t, "bob", soon), "bob", ""},
		{"a wrong key and a right token", "X-API-Key: nonsense\r\n" + iss.bearer(t, "bob", soon), "bob", ""},
		{"a right key and a wrong password", key + basic("alice", "wrong"), "acme", ""},

		{"nothing", "", "", challenges},
		{"an empty one", "Authorization:\r\n", "", challenges},
		{"another scheme", "Authorization: Digest username=alice\r\n", "", challenges},
		{"a wrong key", "X-API-Key: 0123456789abcdeF\r\n", "", challenges},
		{"an empty key", "X-API-Key:\r\n", "", challenges},
		{"two keys", key + key, "", challenges},
		{"a wrong password", basic("alice", "wonderland"), "", challenges},
		{"a stranger", basic("mallory", "wonder:land"), "", challenges},
		{"no base64", "Authorization: Basic !!!\r\n", "", challenges},
		{"two passwords", basic("alice", "wonder:land") + basic("admin", "x"), "", challenges},
		{"an expired token", iss.bearer(t, "bob", over), "", challenges + ` error="invalid_token", error_description="the token has expired"`},
		{"a forged token", newIssuer(t).bearer(t, "bob", soon), "", challenges + ` error="invalid_token"`},
		{"a token and another", iss.bearer(t, "bob", soon) + iss.bearer(t, "root", soon), "", challenges + ` error="invalid_token"`},
		{"a token as a password", strings.Replace(iss.bearer(t, "bob", soon), "Bearer", "Basic", 1), "", challenges},
	} {
		m := cl.ask("GET", "/", c.lines)
		if c.user == "" {
			cl.refused(m, 401)
		} else if m.status() != 200 {
			t.Errorf("%s: %q", c.name, m.start)
		} else if got := ep.last(t).get("Authorization") + ep.last(t).get("X-API-Key"); got == "" {
			t.Errorf("%s: the endpoint does not get the credentials", c.name)
		}
		if got := m.get("WWW-Authenticate"); got != c.challenge {
			t.Errorf("%s: WWW-Authenticate %q, want %q", c.name, got, c.challenge)
		}
		users = append(users, c.user)
	}
	eventually(t, "the log", func() bool { return strings.Count(log.String(), "\n") == len(users) })
	for i, line := range strings.Split(strings.TrimSpace(log.String()), "\n") {
		if strings.Contains(line, `"user":`) != (users[i] != "") || users[i] != "" && !strings.Contains(line, `"user":"`+users[i]+`"`) {
			t.Errorf("%q is logged as %s", users[i], line)
		}
	}
	if got := ep.got(); len(got) != 6 {
		t.Errorf("the endpoint got %d requests, want 6", len(got))
	}
	metrics := r.metrics(t)
	for result, want := range map[string]float64{"accepted": 6, "missing": 4, "rejected": 9, "expired": 1, "busy": 0, "no_keys": 0} {
		if n := sum(metrics, "weir_auth_total", `route="all"`, `result="`+result+`"`); n != want {
			t.Errorf("weir_auth_total of %s: %v, want %v", result, n, want)
		}
	}
	if n := sum(metrics, "weir_auth_source_fresh"); n != 3 {
		t.Errorf("%v sources are fresh, want 3", n)
	}
	for _, secret := range []string{"wonder", "0123456789abcdef", base64.StdEncoding.EncodeToString([]byte("alice:"))[:8], "eyJ"} {
		if strings.Contains(log.String()+r.logs.String(), secret) {
			t.Errorf("a log tells %s", secret)
		}
	}
}

// TestEdgeAuthRefusesBodies: a refused request's small body is read, a large one ends the connection.
func TestEdgeAuthRefusesBodies(t *testing.T) {
	r, ep := gated(t, func(c *config.Route) {
		c.Auth = &config.Auth{APIKey: &config.APIKeyAuth{Header: "X-API-Key", File: file(t, "keys", "a:key\n")}}
	})
	cl := r.dial(t)
	for range 2 {
		cl.send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nGET")
		cl.refused(cl.answer("POST"), 401)
	}
	cl.send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 100000\r\n\r\nGET")
	cl.refused(cl.answer("POST"), 401)
	cl.closed()
	if got := ep.got(); len(got) > 0 {
		t.Errorf("the endpoint got %q", got)
	}
}

// TestEdgeAuthFollowsItsFiles: who is taken out of a file is out, remembered or not, and a reload of the
// configuration leaves the files followed.
func TestEdgeAuthFollowsItsFiles(t *testing.T) {
	users := file(t, "users", htpasswd(t, "alice", "one", bcrypt.MinCost))
	change := func(c *config.Config) {
		c.Routes[0].Auth = &config.Auth{Basic: &config.BasicAuth{File: users, Realm: "r"}}
	}
	ep := newEndpoint(t, serveOK)
	r := start(t, setup{endpoints: []string{ep.addr}, change: change})
	cl := r.dial(t)
	status := func(name, password string) int { return cl.ask("GET", "/", basic(name, password)).status() }
	for range 2 {
		if s := status("alice", "one"); s != 200 {
			t.Fatalf("status %d", s)
		}
	}
	rewrite(t, users, htpasswd(t, "alice", "two", bcrypt.MinCost))
	eventually(t, "the new password", func() bool { return status("alice", "two") == 200 })
	if s := status("alice", "one"); s != 401 {
		t.Errorf("the old password: %d", s)
	}
	rewrite(t, users, "alice:{SHA}nonsense\n")
	eventually(t, "the warning", func() bool { return sum(r.metrics(t), "weir_auth_source_fresh") == 0 })
	if s := status("alice", "two"); s != 200 || !r.Status().Degraded {
		t.Errorf("with a wrong file: %d, degraded %v", s, r.Status().Degraded)
	}
	// Another configuration that names the file goes on with it, a bad one as well.
	next := parse(t, r.yaml)
	change(next)
	next.Routes[0].Timeouts.Idle = 7 * time.Second
	if _, _, err := r.Apply(next); err != nil {
		t.Fatal(err)
	}
	rewrite(t, users, htpasswd(t, "alice", "three", bcrypt.MinCost))
	eventually(t, "the third password", func() bool { return status("alice", "three") == 200 })
	// So does one that leaves the route as it is.
	other := parse(t, r.yaml)
	change(other)
	other.Routes[0].Timeouts.Idle = next.Routes[0].Timeouts.Idle
	other.Routes = append(other.Routes, config.Route{Name: "other", Match: config.Match{Path: "/other"}, Split: other.Routes[0].Split, Timeouts: other.Routes[0].Timeouts, Retry: other.Routes[0].Retry})
	if _, _, err := r.Apply(other); err != nil {
		t.Fatal(err)
	}
	rewrite(t, users, htpasswd(t, "alice", "three again", bcrypt.MinCost))
	eventually(t, "the password after that", func() bool { return status("alice", "three again") == 200 })
	rewrite(t, users, htpasswd(t, "alice", "three", bcrypt.MinCost))
	eventually(t, "the third password again", func() bool { return status("alice", "three") == 200 })
	if n := sum(r.metrics(t), "weir_auth_total", `result="accepted"`); n < 5 {
		t.Errorf("the figures did not outlive the reload: %v", n)
	}
	// A file that is wrong when it is first named refuses the configuration, which changes nothing.
	next = parse(t, r.yaml)
	next.Routes[0].Auth = &config.Auth{Basic: &config.BasicAuth{File: users + "x", Realm: "r"}}
	if _, _, err := r.Apply(next); err == nil || !strings.Contains(err.Error(), "routes.all.auth.basic.file") {
		t.Errorf("a missing file: %v", err)
	}
	if s := status("alice", "three"); s != 200 {
		t.Errorf("after a refused configuration: %d", s)
	}
	if _, _, err := r.Apply(parse(t, r.yaml)); err != nil { // nobody asks any more
		t.Fatal(err)
	}
	if s := status("nobody", "x"); s != 200 {
		t.Errorf("without auth: %d", s)
	}
}

// TestEdgeBruteForce: somebody who tries passwords gets few tries, and nobody else waits for them.
func TestEdgeBruteForce(t *testing.T) {
	alongside(t)
	ep := newEndpoint(t, serveOK)
	users := file(t, "users", htpasswd(t, "alice", "secret", costOf(t, 10*time.Millisecond)))
	r := start(t, setup{endpoints: []string{ep.addr}, options: oneLoop, top: "trusted_proxies: [127.0.0.0/8]\n", change: func(c *config.Config) {
		c.Routes[0].Auth = &config.Auth{Basic: &config.BasicAuth{File: users, Realm: "r"}}
		open := c.Routes[0]
		open.Name, open.Auth, open.Match.Path = "open", nil, "/open"
		c.Routes = append(c.Routes, open)
	}})
	known := r.dial(t)
	if m := known.ask("GET", "/", basic("alice", "secret")); m.status() != 200 {
		t.Fatalf("%q", m.start)
	}
	var attack sync.WaitGroup
	var refused, tried atomic.Int32
	stop := make(chan struct{})
	for i := range 40 {
		cl := r.dial(t)
		_ = cl.SetDeadline(time.Now().Add(12 * patience)) // a busy machine takes its time for forty passwords
		attack.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				switch m := cl.ask("GET", "/", basic(fmt.Sprint("alice", i), fmt.Sprint(n))+"X-Forwarded-For: 192.0.2.66\r\n"); m.status() {
				case 401:
					tried.Add(1)
				case 503:
					refused.Add(1)
					if m.get("Retry-After") == "" {
						t.Error("no Retry-After")
					}
					time.Sleep(5 * time.Millisecond)
				default:
					t.Errorf("%q", m.start)
				}
			}
		})
	}
	eventually(t, "the attack", func() bool { return refused.Load() > 0 })
	open, worst := r.dial(t), time.Duration(0)
	for range 50 {
		from := time.Now()
		if m := open.get("/open"); m.status() != 200 {
			t.Errorf("another route: %q", m.start)
		}
		if m := known.ask("GET", "/", basic("alice", "secret")); m.status() != 200 {
			t.Errorf("who is known: %q", m.start)
		}
		worst = max(worst, time.Since(from))
		time.Sleep(5 * time.Millisecond)
	}
	// A client that was not seen before has its turn: the attacker's share of the queue is bounded.
	eventually(t, "the other client", func() bool {
		m := open.ask("GET", "/", basic("alice", "secreT")+"X-Forwarded-For: 198.51.100.1\r\n")
		return m.status() == 401
	})
	close(stop)
	attack.Wait()
	t.Logf("%d tries, %d refused; the slowest two requests of others took %v", tried.Load(), refused.Load(), worst)
	if n := sum(r.metrics(t), "weir_auth_total", `result="busy"`); n == 0 {
		t.Error("nothing counted as busy")
	}
}

// TestEdgePasswordInterrupted: whoever waits for a look at his password may leave, or run out of time.
func TestEdgePasswordInterrupted(t *testing.T) {
	alongside(t)
	ep := newEndpoint(t, serveOK)
	users := file(t, "users", htpasswd(t, "alice", "secret", costOf(t, 500*time.Millisecond)))
	r := start(t, setup{endpoints: []string{ep.addr}, route: "timeouts: {total: 100ms}", change: func(c *config.Config) {
		c.Routes[0].Auth = &config.Auth{Basic: &config.BasicAuth{File: users, Realm: "r"}}
		slow := c.Routes[0]
		slow.Name, slow.Match.Path, slow.Timeouts.Total = "slow", "/slow", time.Minute
		c.Routes = append(c.Routes, slow)
	}})
	late := r.dial(t)
	late.refused(late.ask("GET", "/", basic("alice", "secret")), 504)
	gone := r.dial(t)
	gone.send("GET /slow HTTP/1.1\r\nHost: h\r\n" + basic("alice", "wrong") + "\r\n")
	gone.Close()
	eventually(t, "the request of who left", func() bool { return countWith(t, r, "499") == 1 })
	if m := late.ask("GET", "/slow", basic("alice", "secret")); m.status() != 200 {
		t.Errorf("afterwards: %q", m.start)
	}
	if got := ep.got(); len(got) != 1 {
		t.Errorf("the endpoint got %q", got)
	}
}

// TestEdgeKeySetFromURL: before the keys have come a token can be neither right nor wrong.
func TestEdgeKeySetFromURL(t *testing.T) {
	iss, ready := newIssuer(t), atomic.Bool{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if !ready.Load() {
			http.Error(w, "not yet", http.StatusServiceUnavailable)
			return
		}
		_, _ = w.Write([]byte(iss.set))
	}))
	t.Cleanup(server.Close)
	r, ep := gated(t, func(c *config.Route) { c.Auth = &config.Auth{JWT: jwtAuth(server.URL + "/jwks.json")} })
	cl := r.dial(t)
	soon := time.Now().Add(time.Minute)
	m := cl.ask("GET", "/", iss.bearer(t, "bob", soon))
	cl.refused(m, 503)
	if m.get("Retry-After") != "1" || !strings.Contains(string(m.body), "auth_unavailable") {
		t.Errorf("%+v %s", m.fields, m.body)
	}
	cl.refused(cl.ask("GET", "/", ""), 401) // that much is known without keys
	cl.refused(cl.ask("GET", "/", "Authorization: Bearer nonsense\r\n"), 401)
	ready.Store(true)
	eventually(t, "the keys", func() bool { return cl.ask("GET", "/", iss.bearer(t, "bob", soon)).status() == 200 })
	cl.refused(cl.ask("GET", "/", newIssuer(t).bearer(t, "bob", soon)), 401)
	if len(ep.got()) != 1 {
		t.Errorf("the endpoint got %q", ep.got())
	}
}

// TestEdgeGateByFile: what the configuration says, and that a reload which changes nothing else changes that.
func TestEdgeGateByFile(t *testing.T) {
	iss, ep := newIssuer(t), newEndpoint(t, serveOK)
	keys := file(t, "keys", "acme:0123456789abcdef\n")
	lines := fmt.Sprintf("auth: {api_key: {file: %q}, jwt: {jwks: %q, issuer: i, audience: weir, claims: {tenant: acme}}}\ncors: {origins: [\"https://app.example.com\"]}",
		keys, file(t, "jwks.json", iss.set))
	s := setup{endpoints: []string{ep.addr}, route: lines}
	r := start(t, s)
	cl := r.dial(t)
	cl.refused(cl.ask("GET", "/", ""), 401)
	if m := cl.ask("GET", "/", "X-API-Key: 0123456789abcdef\r\nOrigin: https://app.example.com\r\n"); m.status() != 200 || m.get("Access-Control-Allow-Origin") != "https://app.example.com" {
		t.Errorf("%q %+v", m.start, m.fields)
	}
	if m := cl.ask("GET", "/", iss.bearer(t, "bob", time.Now().Add(time.Minute))); m.status() != 200 {
		t.Errorf("%q", m.start)
	}
	for _, next := range []struct {
		lines  string
		status int
	}{
		{strings.Replace(lines, "tenant: acme", "tenant: other", 1), 401},
		{strings.Replace(lines, "audience: weir", "audience: weird", 1), 401},
		{lines, 200},
		{"deny: [127.0.0.0/8]", 403},
		{"allow: [127.0.0.1]", 200},
	} {
		s.route = next.lines
		if _, changes, err := r.Apply(parse(t, s.render())); err != nil || len(changes) == 0 {
			t.Fatalf("%s: %v, %q", next.lines, err, changes)
		}
		if m := cl.ask("GET", "/", iss.bearer(t, "bob", time.Now().Add(time.Minute))); m.status() != next.status {
			t.Errorf("%s: %q", next.lines, m.start)
		}
	}
}
