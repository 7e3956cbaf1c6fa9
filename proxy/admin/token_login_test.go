package admin

import (
	"crypto/tls"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"

	"weir/config"
	"weir/internal/certificate"
	"weir/internal/certificate/certificatetest"
)

// guarded is an API whose tokens are those of a file.
type guarded struct {
	*api
	file string
	use  func(path string) // what a reload does
}

func startGuarded(t *testing.T, address, text string, more ...func(*Options, *Server)) *guarded {
	t.Helper()
	g := &guarded{file: tokenFile(t, text)}
	g.api = start(t, append([]func(*Options, *Server){func(o *Options, s *Server) {
		if s != nil {
			return
		}
		tokens := NewTokens(o.Log)
		t.Cleanup(tokens.Close)
		o.Address, o.Tokens = address, tokens
		g.use = func(path string) {
			t.Helper()
			set, err := ReadTokens(path)
			if err != nil {
				t.Fatal(err)
			}
			tokens.Use(path, set)
		}
		g.use(g.file)
	}}, more...)...)
	return g
}

func with(token string, more ...string) map[string]string {
	h := map[string]string{"Authorization": "Bearer " + token, "Content-Type": "application/json"}
	for i := 0; i < len(more); i += 2 {
		h[more[i]] = more[i+1]
	}
	return h
}

const threeTokens = fullToken + "\nci:read:" + readToken + "\nops:write:" + opsToken + "\n"

func TestTokensAreAskedFor(t *testing.T) {
	g := startGuarded(t, "127.0.0.1:0", threeTokens)
	for _, tt := range []struct {
		name   string
		call   call
		status int
		code   string
	}{
		{"none", call{method: "GET", path: "/api/v1/status"}, 401, "unauthorized"},
		{"unknown", call{method: "GET", path: "/api/v1/status", header: with("wrong-0123456789abcdef")}, 401, "unauthorized"},
		{"cut off", call{method: "GET", path: "/api/v1/status", header: with(fullToken[:20])}, 401, "unauthorized"},
		{"empty", call{method: "GET", path: "/api/v1/status", header: with("")}, 401, "unauthorized"},
		{"other scheme", call{method: "GET", path: "/api/v1/status", header: map[string]string{"Authorization": "Basic " + fullToken}}, 401, "unauthorized"},
		{"no scheme", call{method: "GET", path: "/api/v1/status", header: map[string]string{"Authorization": fullToken}}, 401, "unauthorized"},
		{"in the query", call{method: "GET", path: "/api/v1/status?access_token=" + fullToken}, 401, "unauthorized"},
		{"page of links", call{method: "GET", path: "/"}, 401, "unauthorized"},
		{"metrics", call{method: "GET", path: "/metrics"}, 401, "unauthorized"},
		{"unknown path", call{method: "GET", path: "/nothing"}, 401, "unauthorized"},
		{"write without", call{method: "POST", path: "/api/v1/reload"}, 401, "unauthorized"},
		{"events", call{method: "GET", path: "/api/v1/events"}, 401, "unauthorized"},
		{"description", call{method: "GET", path: "/api/v1/openapi.yaml"}, 401, "unauthorized"},
		{"profile without", call{method: "GET", path: "/debug/pprof/heap"}, 401, "unauthorized"},
		{"profile by one that reads", call{method: "GET", path: "/debug/pprof/heap", header: with(readToken)}, 403, "read_only"},
		{"list of profiles by one that reads", call{method: "GET", path: "/debug/pprof", header: with(readToken)}, 403, "read_only"},
		{"profile by one that writes", call{method: "GET", path: "/debug/pprof/heap", header: with(opsToken)}, 200, ""},
		{"profile, written", call{method: "DELETE", path: "/debug/pprof/heap", header: with(opsToken)}, 405, "method_not_allowed"},
		{"A/B without", call{method: "POST", path: "/ab/config", body: `{"model_a_percentage":1}`, header: jsonType}, 401, "unauthorized"},
		{"drain with a read token", call{method: "POST", path: "/api/v1/pools/blue/drain", header: with(readToken)}, 403, "read_only"},
		{"ramp with a read token", call{method: "DELETE", path: "/api/v1/routes/predict/ramp", header: with(readToken)}, 403, "read_only"},
		{"health", call{method: "GET", path: "/health/ready"}, 200, ""},
		{"health under any name", call{method: "GET", path: "/health/live", header: map[string]string{"Host": "pod.example.com"}}, 200, ""},
		{"health by another way", call{method: "GET", path: "/health/../api/v1/status"}, 401, "unauthorized"},
		{"health escaped", call{method: "GET", path: "/health/%2e%2e/api/v1/status"}, 401, "unauthorized"},
		{"double slash", call{method: "GET", path: "//api/v1/status"}, 401, "unauthorized"},
		{"valid", call{method: "GET", path: "/api/v1/status", header: with(fullToken)}, 200, ""},
		{"scheme in lower case", call{method: "GET", path: "/metrics", header: map[string]string{"Authorization": "bearer " + fullToken}}, 200, ""},
		{"write", call{method: "POST", path: "/api/v1/reload", header: with(fullToken)}, 200, ""},
		{"read with a read token", call{method: "GET", path: "/api/v1/routes/predict", header: with(readToken)}, 200, ""},
		{"HEAD with a read token", call{method: "HEAD", path: "/api/v1/status", header: with(readToken)}, 200, ""},
		{"write with a read token", call{method: "POST", path: "/api/v1/reload", header: with(readToken)}, 403, "read_only"},
		{"PUT with a read token", call{method: "PUT", path: "/api/v1/routes/predict/weights", body: `{"weights":{"blue":1,"green":1}}`, header: with(readToken)}, 403, "read_only"},
		{"unknown method with a read token", call{method: "PATCH", path: "/api/v1/status", header: with(readToken)}, 403, "read_only"},
		{"origin of another site", call{method: "POST", path: "/api/v1/reload", header: with(fullToken, "Origin", "http://evil.example.com")}, 403, "forbidden_origin"},
		{"name on loopback", call{method: "GET", path: "/api/v1/status", header: with(fullToken, "Host", "weir.example.com")}, 403, "forbidden_host"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			resp, body := do(t, g.url, tt.call)
			if tt.code == "" {
				if resp.StatusCode != tt.status {
					t.Errorf("%d %s, want %d", resp.StatusCode, body, tt.status)
				}
				return
			}
			checkFailure(t, resp, body, tt.status, tt.code, "")
			if got := resp.Header.Get("WWW-Authenticate"); (got == "Bearer") != (tt.status == 401) {
				t.Errorf("WWW-Authenticate: %q", got)
			}
		})
	}
	if g.Generation() != 1 {
		t.Error("a token that may only read has changed something")
	}
}

func TestTwoAuthorizations(t *testing.T) {
	g := startGuarded(t, "127.0.0.1:0", threeTokens)
	req, err := http.NewRequest(http.MethodGet, g.url+"/api/v1/status", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header["Authorization"] = []string{"Bearer " + fullToken, "Bearer " + readToken}
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != 401 {
		t.Errorf("%s", resp.Status)
	}
}

func TestNameOfTheTokenIsWhoDidIt(t *testing.T) {
	g := startGuarded(t, "127.0.0.1:0", threeTokens)
	for token, want := range map[string]string{fullToken: "token 127.0.0.1", opsToken: "ops 127.0.0.1"} {
		body := fmt.Sprintf(`{"weights":{"blue":1,"green":%d}}`, g.Generation())
		do(t, g.url, call{method: "PUT", path: "/api/v1/routes/predict/weights", body: body, header: with(token)})
		if got := g.lastChange().By; got != want {
			t.Errorf("by %q, want %q", got, want)
		}
	}
}

// TestNamesBeyondLoopback wants a token to stand in for a name that weir cannot know.
func TestNamesBeyondLoopback(t *testing.T) {
	g := startGuarded(t, "0.0.0.0:9901", threeTokens)
	f := func(status int, code string, header map[string]string) {
		t.Helper()
		resp, body := do(t, g.url, call{method: "GET", path: "/api/v1/status", header: header})
		if code != "" {
			checkFailure(t, resp, body, status, code, "")
		} else if resp.StatusCode != status {
			t.Errorf("%d %s, want %d", resp.StatusCode, body, status)
		}
	}
	f(200, "", with(readToken, "Host", "weir.prod.svc:9901"))
	f(401, "unauthorized", map[string]string{"Host": "weir.prod.svc:9901"})
	f(401, "unauthorized", with("wrong-0123456789abcdef", "Host", "evil.example.com"))
	f(403, "forbidden_origin", with(fullToken, "Host", "weir.prod.svc:9901", "Origin", "https://evil.example.com"))
	f(200, "", with(fullToken, "Host", "weir.prod.svc:9901", "Origin", "https://weir.prod.svc:9901"))

	open := startGuarded(t, "0.0.0.0:9901", threeTokens, func(o *Options, _ *Server) { o.Tokens = nil })
	resp, body := do(t, open.url, call{method: "GET", path: "/api/v1/status", header: map[string]string{"Host": "weir.prod.svc:9901"}})
	checkFailure(t, resp, body, 403, "forbidden_host", "")
}

func TestRefusalsAreLoggedSparinglyAndWithoutTheToken(t *testing.T) {
	g := startGuarded(t, "127.0.0.1:0", threeTokens)
	tried := "tried-0123456789abcdef"
	for range 50 {
		do(t, g.url, call{method: "GET", path: "/api/v1/status?token=" + tried, header: with(tried)})
	}
	lines := g.logs.FilterMessage("a request to the admin API was refused").All()
	if len(lines) == 0 || len(lines) > 10 {
		t.Fatalf("%d lines for 50 refusals", len(lines))
	}
	if m := lines[0].ContextMap(); m["by"] != "api 127.0.0.1" || m["path"] != `"/api/v1/status"` || m["why"] != "the token is not one of those in force" {
		t.Errorf("%v", m)
	}
	do(t, g.url, call{method: "PUT", path: "/api/v1/routes/predict/weights", body: `{"weights":{"blue":1,"green":1}}`, header: with(opsToken)})
	for _, entry := range g.logs.All() {
		for _, secret := range []string{tried, fullToken, readToken, opsToken} {
			if strings.Contains(fmt.Sprint(entry.Message, entry.ContextMap()), secret) {
				t.Errorf("a token is in the log: %v", entry)
			}
		}
	}
}

func TestRefusalsCount(t *testing.T) {
	var f refusals
	now := time.Now()
	if untold, tell := f.next(now); !tell || untold != 0 {
		t.Error("the first is not told")
	}
	for range 7 {
		if _, tell := f.next(now.Add(time.Millisecond)); tell {
			t.Error("told twice in a second")
		}
	}
	if untold, tell := f.next(now.Add(2 * time.Second)); !tell || untold != 7 {
		t.Errorf("%d, %v", untold, tell)
	}
}

func (g *guarded) status(t *testing.T, token string) int {
	t.Helper()
	resp, _ := do(t, g.url, call{method: "GET", path: "/api/v1/status", header: with(token)})
	return resp.StatusCode
}

// TestTokensFollowTheirFile changes the file alone; no configuration is read.
func TestTokensFollowTheirFile(t *testing.T) {
	g := startGuarded(t, "127.0.0.1:0", fullToken)
	certificatetest.WriteFile(t, g.file, []byte("ops:write:"+opsToken))
	eventually(t, "the new token", func() bool { return g.status(t, opsToken) == 200 })
	if got := g.status(t, fullToken); got != 401 {
		t.Errorf("the token that was taken out: %d", got)
	}

	certificatetest.WriteFile(t, g.file, []byte("short-s3cret\n"))
	rejected := "the token file was rejected; the tokens before it stay in force"
	eventually(t, "a warning", func() bool { return g.logs.FilterMessage(rejected).Len() == 1 })
	if entry := g.logs.FilterMessage(rejected).All()[0]; entry.Level != zap.WarnLevel || strings.Contains(fmt.Sprint(entry.ContextMap()), "s3cret") {
		t.Errorf("%v", entry)
	}
	if err := os.Remove(g.file); err != nil {
		t.Fatal(err)
	}
	if got := g.status(t, opsToken); got != 200 {
		t.Errorf("a bad file locks out: %d", got)
	}
	if got := g.status(t, "short-s3cret"); got != 401 {
		t.Errorf("a bad file lets in: %d", got)
	}

	other := tokenFile(t, fullToken)
	g.use(other)
	if a, b := g.status(t, fullToken), g.status(t, opsToken); a != 200 || b != 401 {
		t.Errorf("another file: %d and %d, want 200 and 401", a, b)
	}
	certificatetest.WriteFile(t, g.file, []byte(opsToken)) // nobody's file any more
	certificatetest.WriteFile(t, other, []byte(readToken))
	eventually(t, "the second file", func() bool { return g.status(t, readToken) == 200 })
	if got := g.status(t, opsToken); got != 401 {
		t.Errorf("the file before is still followed: %d", got)
	}
	g.use("")
	if resp, body := do(t, g.url, call{method: "GET", path: "/api/v1/status"}); resp.StatusCode != 200 {
		t.Errorf("without a token file: %d %s", resp.StatusCode, body)
	}
}

// TestUseTakesNoOlderContent hands in what was read before the file changed, as a reload may that is
// overtaken by the watch.
func TestUseTakesNoOlderContent(t *testing.T) {
	path := tokenFile(t, fullToken)
	old, err := ReadTokens(path)
	if err != nil {
		t.Fatal(err)
	}
	tokens := NewTokens(zap.NewNop())
	defer tokens.Close()
	tokens.Use(path, old)
	certificatetest.WriteFile(t, path, []byte(readToken))
	tokens.Use(path, old)
	if _, ok := tokens.inForce().find(fullToken); ok {
		t.Error("a token that is not in the file any more is let in")
	}
}

func TestServesTLS(t *testing.T) {
	ca := certificatetest.New(t)
	cert, key := ca.Issue(t, time.Hour, "weir.example.com").Write(t, t.TempDir())
	w, err := certificate.Watch(cert, key, certificate.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Close)
	g := startGuarded(t, "0.0.0.0:9901", threeTokens, func(o *Options, _ *Server) { o.GetCertificate = w.GetCertificate })
	url := "https" + strings.TrimPrefix(g.url, "http")

	get := func(protocols *http.Protocols, version uint16) (*http.Response, error) {
		transport := &http.Transport{Protocols: protocols, TLSClientConfig: &tls.Config{RootCAs: ca.Pool(), ServerName: "weir.example.com", MinVersion: version, MaxVersion: version}}
		t.Cleanup(transport.CloseIdleConnections)
		req, err := http.NewRequest(http.MethodGet, url+"/api/v1/status", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+readToken)
		return transport.RoundTrip(req)
	}
	for _, two := range []bool{false, true} {
		protocols := new(http.Protocols)
		protocols.SetHTTP1(!two)
		protocols.SetHTTP2(two)
		for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			resp, err := get(protocols, version)
			if err != nil {
				t.Fatal(err)
			}
			_ = resp.Body.Close()
			if resp.StatusCode != 200 || (resp.ProtoMajor == 2) != two {
				t.Errorf("%s over %s with %s, want HTTP/2: %v", resp.Status, resp.Proto, tls.VersionName(version), two)
			}
		}
		if resp, err := get(protocols, tls.VersionTLS11); err == nil {
			_ = resp.Body.Close()
			t.Error("TLS 1.1 was spoken")
		}
	}
}

func TestCheckReadsTheFiles(t *testing.T) {
	ca, dir := certificatetest.New(t), t.TempDir()
	cert, key := ca.Issue(t, time.Hour).Write(t, dir)
	good := config.Admin{TokenFile: tokenFile(t, fullToken), TLS: &config.Certificate{Cert: cert, Key: key}}
	if err := Check(&config.Config{Admin: good}); err != nil {
		t.Error(err)
	}
	if err := Check(&config.Config{}); err != nil {
		t.Error(err)
	}
	err := Check(&config.Config{File: "weir.yaml", Admin: config.Admin{
		TokenFile: tokenFile(t, "short"), TLS: &config.Certificate{Cert: cert, Key: filepath.Join(dir, "none")},
	}})
	faults, ok := err.(config.Faults)
	if !ok || len(faults) != 2 || !strings.Contains(faults[0].Error(), "has 5 characters") ||
		!strings.HasPrefix(faults[1].Error(), "weir.yaml: admin.tls: ") || !strings.Contains(faults[1].Error(), "none cannot be read") {
		t.Errorf("%v", err)
	}
}

// TestReadinessTellsStrangersNoReasons: why not is for those who may know how weir is made.
func TestReadinessTellsStrangersNoReasons(t *testing.T) {
	for address, told := range map[string]bool{"0.0.0.0:9901": false, "127.0.0.1:9901": true} {
		g := startGuarded(t, address, threeTokens)
		g.set(func() { g.notReady = []string{"pool blue: endpoint 10.0.0.7:8001"} })
		for token, reasons := range map[string]bool{"": told, "Bearer wrong": told, "Bearer " + readToken: true} {
			header := map[string]string{}
			if token != "" {
				header["Authorization"] = token
			}
			resp, body := do(t, g.url, call{method: "GET", path: "/health/ready", header: header})
			if resp.StatusCode != 503 || strings.Contains(body, "10.0.0.7") != reasons {
				t.Errorf("%s with %q: %d %s", address, token, resp.StatusCode, body)
			}
		}
	}
}
