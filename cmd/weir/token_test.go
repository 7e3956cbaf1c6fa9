package main

import (
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"weir/internal/certificate/certificatetest"
)

const (
	opsToken  = "ops-s3cret-0123456789"
	ciToken   = "ci-s3cret-0123456789"
	nextToken = "next-s3cret-0123456789"
)

// guarded is a weir whose admin API speaks TLS and asks for tokens.
type guarded struct {
	*weir
	ca         *certificatetest.Authority
	dir        string // of the configuration and all it names
	pair       certificatetest.Pair
	token, cas []string // flags
}

func serveGuarded(t *testing.T) *guarded {
	t.Helper()
	dir, ca := t.TempDir(), certificatetest.New(t)
	g := &guarded{ca: ca, dir: dir, pair: ca.Issue(t, time.Hour)}
	g.pair.Write(t, dir)
	writeFile(t, filepath.Join(dir, "tokens"), "ops:write:"+opsToken+"\nci:read:"+ciToken+"\n")
	writeFile(t, filepath.Join(dir, "ca.pem"), string(ca.PEM()))
	writeFile(t, filepath.Join(dir, "ops"), opsToken+"\n")
	file := filepath.Join(dir, "weir.yaml")
	writeFile(t, file, strings.Replace(blueGreen(endpoint(t, "blue"), endpoint(t, "green"), "blue: 1, green: 0"),
		`admin: {address: "127.0.0.1:0"}`, `admin: {address: "0.0.0.0:0", token_file: tokens, tls: {cert: tls.crt, key: tls.key}}`, 1))
	g.weir = serveFile(t, file)
	g.admin = "https://localhost" + g.admin[strings.LastIndex(g.admin, ":"):]
	g.token, g.cas = []string{"--token-file", filepath.Join(dir, "ops")}, []string{"--ca-file", filepath.Join(dir, "ca.pem")}
	return g
}

func (g *guarded) with(args ...string) []string {
	return append(append(args, g.token...), g.cas...)
}

// call asks for the metrics with a token; serial is that of the certificate that answered.
func (g *guarded) call(token string) (status int, serial int64, body string) {
	g.t.Helper()
	client := http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: g.ca.Pool()}, DisableKeepAlives: true}}
	req, err := http.NewRequest(http.MethodGet, g.admin+"/metrics", nil)
	if err != nil {
		g.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	resp, err := client.Do(req)
	if err != nil {
		g.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		g.t.Fatal(err)
	}
	return resp.StatusCode, resp.TLS.PeerCertificates[0].SerialNumber.Int64(), string(text)
}

func (g *guarded) status(token string) int {
	g.t.Helper()
	status, _, _ := g.call(token)
	return status
}

func TestCommandsBringATokenOverTLS(t *testing.T) {
	g := serveGuarded(t)
	if out := g.mustCommand(g.with("status")...); !strings.Contains(out, "healthy") {
		t.Errorf("status:\n%s", out)
	}
	g.mustCommand(g.with("shift", "predict", "blue=1", "green=1")...)
	if line := g.log.find(t, "routing changed"); len(line) != 1 || line[0]["by"] != "ops 127.0.0.1" {
		t.Errorf("log: %v", line)
	}
	if out := g.mustCommand(append([]string{"healthcheck"}, g.cas...)...); out != "ready\n" {
		t.Errorf("healthcheck without a token: %q", out)
	}
	shown := g.mustCommand(g.with("config", "show")...)
	if !strings.Contains(shown, filepath.Join(g.dir, "tokens")) {
		t.Errorf("config show:\n%s", shown)
	}

	g.token = []string{"--token-file", filepath.Join(g.dir, "tokens")} // the server's own file will do
	g.mustCommand(g.with("reload")...)

	t.Setenv("WEIR_CA", filepath.Join(g.dir, "ca.pem"))
	t.Setenv("WEIR_TOKEN", ciToken)
	g.mustCommand("status")
	for _, tt := range []struct {
		name, token, says string
		args              []string
		status            int
	}{
		{"read-only token", ciToken, `the token "ci" may only read`, []string{"reload"}, 1},
		{"no token", "", "a token is required", []string{"status"}, 1},
		{"unknown token", "wrong-s3cret-0123456789", "the token is not one of those in force", []string{"status"}, 1},
		{"unsendable token", "wrong s3cret", "WEIR_TOKEN has a character", []string{"status"}, 2},
		{"no such token file", "", "none: cannot be read", []string{"status", "--token-file", filepath.Join(g.dir, "none")}, 1},
		{"no such authority", ciToken, "--ca-file: ", []string{"status", "--ca-file", filepath.Join(g.dir, "none")}, 1},
		{"no authority at all", ciToken, "has no certificate in PEM form", []string{"status", "--ca-file", g.file}, 1},
		{"password in the address", ciToken, "has a user in it", []string{"status", "--admin", "https://u:wrong-s3cret@localhost:1"}, 2},
		{"plain HTTP", ciToken, "write https://", []string{"status", "--admin", strings.Replace(g.admin, "https", "http", 1)}, 1},
	} {
		t.Setenv("WEIR_TOKEN", tt.token)
		stdout, stderr, status := g.command(tt.args...)
		if status != tt.status || !strings.Contains(stderr, tt.says) || stdout != "" {
			t.Errorf("%s: exit %d, %q, %q; want %d with %q", tt.name, status, stdout, stderr, tt.status, tt.says)
		}
		if strings.Contains(stderr, "s3cret") {
			t.Errorf("%s: a token is in the message: %s", tt.name, stderr)
		}
	}
	t.Setenv("WEIR_CA", "")
	if _, stderr, status := g.command("status"); status != 1 || !strings.Contains(stderr, "--ca-file or WEIR_CA") {
		t.Errorf("unknown authority: exit %d, %s", status, stderr)
	}
	if all := shown + g.log.text() + g.out.text(); strings.Contains(all, "s3cret") || strings.Contains(all, "PRIVATE KEY") {
		t.Errorf("a secret shows up:\n%s", all)
	}
}

func TestTokensAndCertificateFollowTheirFiles(t *testing.T) {
	g := serveGuarded(t)
	text, err := os.ReadFile(g.file)
	if err != nil {
		t.Fatal(err)
	}
	renewed := g.ca.Issue(t, 2*time.Hour)
	renewed.Write(t, g.dir)
	writeFile(t, filepath.Join(g.dir, "tokens"), nextToken)
	eventually(t, "the new token", func() bool { return g.status(nextToken) == 200 })
	eventually(t, "the new certificate", func() bool { _, serial, _ := g.call(nextToken); return serial == renewed.Serial })
	if status := g.status(opsToken); status != 401 {
		t.Errorf("the old token: %d", status)
	}
	g.token = []string{"--token-file", filepath.Join(g.dir, "tokens")}
	if g.log.find(t, "listening")[0]["generation"] != 1.0 || len(g.log.find(t, "the configuration was reloaded")) != 0 {
		t.Error("a change of secrets is none of the configuration")
	}

	// Another file of tokens is a change of the configuration.
	writeFile(t, filepath.Join(g.dir, "tokens2"), "ops:write:"+opsToken)
	writeFile(t, g.file, strings.Replace(string(text), "token_file: tokens,", "token_file: tokens2,", 1))
	eventually(t, "the other file", func() bool { return g.status(opsToken) == 200 })
	g.token = []string{"--token-file", filepath.Join(g.dir, "tokens2")}

	for _, tt := range []struct{ old, new, says string }{
		{"token_file: tokens,", "token_file: none,", "admin.token_file: cannot be read"},
		{"tls: {cert: tls.crt", "tls: {cert: other.crt", "admin.tls: cannot change by a reload"},
		{", tls: {cert: tls.crt, key: tls.key}", "", "admin.tls: cannot change by a reload"},
		{"token_file: tokens,", "", "admin.address: 0.0.0.0:0 can be reached from other machines"},
	} {
		writeFile(t, g.file, strings.Replace(string(text), tt.old, tt.new, 1))
		if _, stderr, status := g.command(g.with("reload")...); status != 1 || !strings.Contains(stderr, tt.says) {
			t.Errorf("exit %d, %s; want %q", status, stderr, tt.says)
		}
		if status := g.status(opsToken); status != 200 {
			t.Errorf("after a file that was rejected: %d", status)
		}
	}
	if strings.Contains(g.log.text(), "s3cret") {
		t.Error("a token is in the log")
	}
}

func TestExpiryOfTheCertificateIsAMetric(t *testing.T) {
	g := serveGuarded(t)
	_, _, text := g.call(ciToken)
	if want := fmt.Sprintf("weir_certificate_expiry_timestamp_seconds{file=%q} ", filepath.Join(g.dir, "tls.crt")); !strings.Contains(text, want) {
		t.Errorf("no %s in\n%s", want, text)
	}
}

func TestCheckAndServeReadWhatTheFileNames(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "weir.yaml")
	text := func(admin string) string {
		return "listeners: [{address: '127.0.0.1:0'}]\nadmin: " + admin + "\npools: {blue: {endpoints: ['127.0.0.1:1']}}\nroutes: [{name: predict, split: {blue: 1}}]\n"
	}
	writeFile(t, filepath.Join(dir, "good"), opsToken)
	writeFile(t, filepath.Join(dir, "bad"), "# tokens\ns3cret\n")
	certificatetest.New(t).Issue(t, -time.Minute).Write(t, dir)
	for _, tt := range []struct{ admin, says string }{
		{"{address: '0.0.0.0:0'}", file + ":2:18: admin.address: 0.0.0.0:0 can be reached from other machines"},
		{"{address: '127.0.0.1:0', token_file: none}", filepath.Join(dir, "none") + ": admin.token_file: cannot be read: no such file"},
		{"{address: '127.0.0.1:0', token_file: bad}", filepath.Join(dir, "bad") + ":2:1: admin.token_file: the token has 6 characters"},
		{"{address: '0.0.0.0:0', token_file: good, tls: {cert: tls.crt, key: tls.key}}", file + ": admin.tls: " + filepath.Join(dir, "tls.crt") + " expired at"},
	} {
		writeFile(t, file, text(tt.admin))
		w := start(t, "check", file)
		if status := w.exit(); status != 1 || !strings.Contains(w.out.text(), tt.says) {
			t.Errorf("check: exit %d, %s; want %q", status, w.out.text(), tt.says)
		}
		s := start(t, "serve", "-c", file)
		if status := s.exit(); status != 1 || !strings.Contains(s.log.text(), tt.says) || strings.Contains(s.log.text(), "s3cret") {
			t.Errorf("serve: exit %d, %s; want %q", status, s.log.text(), tt.says)
		}
	}
	writeFile(t, file, text("{address: '0.0.0.0:0', token_file: good}"))
	if w := start(t, "check", file); w.exit() != 0 {
		t.Errorf("check of a good file: %s", w.out.text())
	}
	w := serveFile(t, file)
	if len(w.log.find(t, "can be reached from other machines without TLS")) != 1 {
		t.Error("no warning about tokens in the clear")
	}
}
