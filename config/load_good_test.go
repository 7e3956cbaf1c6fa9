package config

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestMinimalFile writes the defaults of the interface out, so that changing one in
// default.go by mistake fails here.
func TestMinimalFile(t *testing.T) {
	got, err := Load(filepath.Join("testdata", "good", "minimal.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	want := &Config{
		File:   filepath.Join("testdata", "good", "minimal.yaml"),
		Engine: EngineAuto,
		Listeners: []Listener{{
			Address:   ":8080",
			Protocols: []string{"http1", "http2"},
			Timeouts:  ListenerTimeouts{Header: 10 * time.Second, Body: time.Minute, KeepAlive: time.Minute},
			Limits:    ListenerLimits{Header: 65536, URI: 16384, Body: 67108864, Connections: 100000, Streams: 128},
		}},
		Admin:  Admin{Address: "127.0.0.1:9901"},
		State:  State{File: absolute(t, "testdata", "good", "weir.state.json")},
		Log:    Log{Level: "info", Access: AccessLog{Output: "stdout"}},
		Memory: Memory{KeepAlivePercent: 80},
		Pools: []Pool{{
			Name:      "blue",
			Endpoints: []Endpoint{{Address: "127.0.0.1:8001", Weight: 1}},
			Policy:    "prequal",
			Probe: &Probe{
				Path: "/health/ready", Interval: 5 * time.Second, Timeout: time.Second, Rise: 2, Fall: 3,
				Status: StatusRange{Low: 200, High: 299},
			},
			Outlier: &Outlier{
				ConsecutiveFailures: 5, MinRequests: 20, Interval: 10 * time.Second,
				Ejection: 30 * time.Second, MaxEjection: 5 * time.Minute, MaxEjectedPercent: 50,
			},
			Protocol:    "http1",
			Connections: Connections{Max: 1024, Idle: 128, ConnectTimeout: time.Second, Streams: 100, Keepalive: 30 * time.Second, KeepaliveTimeout: 10 * time.Second},
		}},
		Routes: []Route{{
			Name:     "predict",
			Split:    []Variant{{Pool: "blue", Weight: 1}},
			Timeouts: RouteTimeouts{Total: 5 * time.Minute, Attempt: time.Minute, Idle: time.Minute, Header: "X-Request-Timeout"},
			Priority: Priority{Class: "normal"},
			Log:      RouteLog{Percent: 100},
			Stream:   Stream{ErrorEvent: true},
			Retry: Retry{
				Attempts: 2, On: []string{"connect", "reset"}, Idempotent: "auto",
				BudgetPercent: 20, Backoff: 25 * time.Millisecond,
			},
		}},
	}
	if diff := cmp.Diff(want, got, byText); diff != "" {
		t.Errorf("minimal.yaml (-want +got):\n%s", diff)
	}
}

// TestGoodFiles compares what each file means with the golden file beside it, and reads
// what was rendered back in.
func TestGoodFiles(t *testing.T) {
	for _, path := range files(t, "good") {
		t.Run(filepath.Base(path), func(t *testing.T) {
			c, err := parse("/etc/weir/weir.yaml", []byte(readTest(t, path)), testEnvironment)
			if err != nil {
				t.Fatal(err)
			}
			rendered, err := Render(c)
			if err != nil {
				t.Fatal(err)
			}
			golden := strings.TrimSuffix(path, ".yaml") + ".effective"
			if *update {
				if err := os.WriteFile(golden, rendered, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if diff := cmp.Diff(readTest(t, golden), string(rendered)); diff != "" {
				t.Errorf("%s (-want +got):\n%s", golden, diff)
			}
			asJSON, err := RenderJSON(c)
			if err != nil {
				t.Fatal(err)
			}
			for form, data := range map[string][]byte{"YAML": rendered, "JSON": asJSON} {
				again, err := parse("/etc/weir/weir.yaml", data, noEnvironment)
				if err != nil {
					t.Fatalf("the rendered %s has faults:\n%s", form, err)
				}
				if diff := cmp.Diff(c, again, byText); diff != "" {
					t.Errorf("rendered as %s and read again (-before +after):\n%s", form, diff)
				}
			}
		})
	}
}

func absolute(t *testing.T, parts ...string) string {
	t.Helper()
	path, err := filepath.Abs(filepath.Join(parts...))
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func noEnvironment(string) (string, bool) { return "", false }

func TestRenderJSONKeepsTheOrderOfTheFile(t *testing.T) {
	c, err := parseTest(t, `
listeners: [{address: ":8080"}]
pools: {zeta: {endpoints: ["127.0.0.1:8001"]}, alpha: {endpoints: ["127.0.0.1:8002"]}}
routes: [{name: predict, split: {zeta: 90, alpha: 0.5}}]
`)
	if err != nil {
		t.Fatal(err)
	}
	data, err := RenderJSON(c)
	if err != nil {
		t.Fatal(err)
	}
	const want = "\"split\": {\n        \"zeta\": 90,\n        \"alpha\": 0.5\n      }"
	if !strings.Contains(string(data), want) {
		t.Errorf("%s\ndoes not have\n%s", data, want)
	}
}

func TestPathsResolveAgainstTheFile(t *testing.T) {
	f := func(name, output, want string) {
		t.Helper()
		c, err := parse(name, []byte(`
listeners: [{address: ":8080"}]
log: {access: {output: `+output+`}}
pools: {blue: {endpoints: ["127.0.0.1:8001"]}}
routes: [{name: predict, split: {blue: 1}}]
`), noEnvironment)
		if err != nil {
			t.Fatal(err)
		}
		if got := c.Log.Access.Output; got != want {
			t.Errorf("output %s in %q is %q, want %q", output, name, got, want)
		}
	}
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	f("/etc/weir/weir.yaml", "access.log", "/etc/weir/access.log")
	f("/etc/weir/weir.yaml", "../log/access.log", "/etc/log/access.log")
	f("/etc/weir/weir.yaml", "/var/log/access.log", "/var/log/access.log")
	f("/etc/weir/weir.yaml", "stdout", "stdout")
	f("/etc/weir/weir.yaml", "stderr", "stderr")
	f("/etc/weir/weir.yaml", "off", "off")
	f("/etc/weir/weir.yaml", "./off", "/etc/weir/off")
	f("conf/weir.yaml", "access.log", filepath.Join(here, "conf", "access.log"))
	f("", "access.log", "access.log")
}

// TestEveryPathResolves holds for the other keys that are paths.
func TestEveryPathResolves(t *testing.T) {
	const text = `
listeners: [{address: ":8080"}]
admin: {address: ":9901", token_file: tokens, tls: {cert: ../tls/a.crt, key: /run/a.key}}
state: {file: var/state.json}
pools: {blue: {endpoints: ["127.0.0.1:8001"]}}
routes:
  - {name: a, match: {path: /a}, split: {blue: 1}, auth: {basic: {file: users}, api_key: {file: ../keys}, jwt: {jwks: jwks.json, issuer: i, audience: a}}}
  - {name: b, match: {path: /b}, split: {blue: 1}, auth: {jwt: {jwks: "https://login.example.com/jwks.json", issuer: i, audience: a}}}
`
	f := func(name string, want ...string) {
		t.Helper()
		c, err := parse(name, []byte(text), noEnvironment)
		if err != nil {
			t.Fatal(err)
		}
		a, b := c.Routes[0].Auth, c.Routes[1].Auth
		got := []string{c.Admin.TokenFile, c.Admin.TLS.Cert, c.Admin.TLS.Key, c.State.File, a.Basic.File, a.APIKey.File, a.JWT.JWKS, b.JWT.JWKS}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("in %q (-want +got):\n%s", name, diff)
		}
	}
	f("/etc/weir/weir.yaml", "/etc/weir/tokens", "/etc/tls/a.crt", "/run/a.key", "/etc/weir/var/state.json",
		"/etc/weir/users", "/etc/keys", "/etc/weir/jwks.json", "https://login.example.com/jwks.json")
	f("", "tokens", "../tls/a.crt", "/run/a.key", "var/state.json",
		"users", "../keys", "jwks.json", "https://login.example.com/jwks.json")
}

func TestTrustedProxies(t *testing.T) {
	c, err := parseTest(t, `
listeners: [{address: ":8080"}]
trusted_proxies: [10.0.0.0/8, 192.0.2.7, "::ffff:192.0.2.8", "2001:db8::1"]
pools: {blue: {endpoints: ["127.0.0.1:8001"]}}
routes: [{name: predict, split: {blue: 1}}]
`)
	if err != nil {
		t.Fatal(err)
	}
	want := []netip.Prefix{
		netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("192.0.2.7/32"),
		netip.MustParsePrefix("192.0.2.8/32"), netip.MustParsePrefix("2001:db8::1/128"),
	}
	if diff := cmp.Diff(want, c.TrustedProxies, byText); diff != "" {
		t.Errorf("trusted proxies (-want +got):\n%s", diff)
	}
}

func TestLoadUnreadable(t *testing.T) {
	dir := t.TempDir()
	f := func(path, want string) {
		t.Helper()
		_, err := Load(path)
		if err == nil || err.Error() != path+want {
			t.Errorf("got %v, want %s%s", err, path, want)
		}
		if _, ok := err.(Faults); !ok {
			t.Errorf("error is a %T, want Faults", err)
		}
	}
	f(filepath.Join(dir, "missing.yaml"), ": cannot be read: no such file or directory")
	f(dir, ": cannot be read: is a directory")

	large := filepath.Join(dir, "large.yaml")
	write(t, large, strings.Repeat("# much\n", MaxFile/7+1))
	f(large, ":1:1: the file is larger than 1MiB, the most that is read")
}

// TestManyFaults gives a file that is not a weir.yaml at all a short answer in a short time.
func TestManyFaults(t *testing.T) {
	var data strings.Builder
	for data.Len() < MaxFile-100 {
		data.WriteString("key")
		for n := data.Len(); n > 0; n /= 26 {
			data.WriteByte(byte('a' + n%26))
		}
		data.WriteString(": 1\n")
	}
	_, err := parseTest(t, data.String())
	faults, ok := err.(Faults)
	if !ok || len(faults) != maxFaults+1 {
		t.Fatalf("%d faults, want %d and one about the rest", len(faults), maxFaults)
	}
	last := faults[maxFaults]
	if !strings.HasSuffix(last.Message, "more faults are not shown; repair these first") {
		t.Errorf("the last fault is %q", last)
	}
}

// TestAliasBomb wants the classic file that grows on expansion refused as what it is.
func TestAliasBomb(t *testing.T) {
	var data strings.Builder
	data.WriteString("a0: &a0 [x]\n")
	for i := 1; i < 10; i++ {
		before := "*a" + string(rune('0'+i-1))
		data.WriteString("a" + string(rune('0'+i)) + ": &a" + string(rune('0'+i)) + " [" + strings.Repeat(before+", ", 9) + before + "]\n")
	}
	_, err := parseTest(t, data.String())
	if err == nil || !strings.Contains(err.Error(), "aliases (*a8) are not supported") {
		t.Errorf("got %.200v", err)
	}
}

func TestByteOrderMarkAndLineEnds(t *testing.T) {
	data := readTest(t, filepath.Join("testdata", "good", "minimal.yaml"))
	for form, variant := range map[string]string{
		"byte order mark": "\ufeff" + data,
		"CRLF":            strings.ReplaceAll(data, "\n", "\r\n"),
	} {
		if _, err := parseTest(t, variant); err != nil {
			t.Errorf("%s: %v", form, err)
		}
	}
}

// TestLongFiles wants the cost of a file to follow its size, whatever is repeated in it. A
// check of every pair would take minutes here.
func TestLongFiles(t *testing.T) {
	fill := func(head, tail string, line func(i int) string) string {
		var data strings.Builder
		data.WriteString(head)
		for i := 0; data.Len() < MaxFile/4; i++ {
			data.WriteString(line(i))
		}
		return data.String() + tail
	}
	const listeners = "listeners: [{address: \":8080\"}]\n"
	const pools = "pools: {blue: {endpoints: [\"m:1\"]}}\n"
	const routes = "routes: [{name: a, split: {blue: 1}}]\n"
	for what, data := range map[string]string{
		"listeners": fill(pools+routes+"listeners:\n", "", func(i int) string { return fmt.Sprintf("- {address: \"h%d:1\"}\n", i) }),
		"endpoints": fill(listeners+routes+"pools:\n  blue:\n    endpoints:\n", "", func(i int) string { return fmt.Sprintf("    - h%d:1\n", i) }),
		"pools":     fill(listeners+routes+"pools:\n", "", func(i int) string { return fmt.Sprintf("  p%d: {endpoints: [\"m:1\"]}\n", i) }),
		"routes":    fill(listeners+pools+"routes:\n", "", func(i int) string { return fmt.Sprintf("- {name: r%d, match: {path: /%d}, split: {blue: 1}}\n", i, i) }),
		"variants":  fill(listeners+pools+"routes:\n- name: a\n  split:\n", "", func(i int) string { return fmt.Sprintf("    blue%d: 1\n", i) }),
		"failures":  fill(listeners+pools+"routes:\n- name: a\n  split: {blue: 1}\n  retry:\n    on:\n", "", func(int) string { return "    - 502\n" }),
		"headers":   fill(listeners+pools+"routes:\n- name: a\n  match:\n    headers:\n", "  split: {blue: 1}\n", func(i int) string { return fmt.Sprintf("      X-%d: a\n", i) }),
	} {
		start := time.Now()
		_, _ = parseTest(t, data) // with faults or without
		if took := time.Since(start); took > 10*time.Second {
			t.Errorf("%s: %v for a file of %d bytes", what, took, len(data))
		}
	}
}
