package peers

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"weir/config"
)

// setups are the shapes of work that the templates tell apart.
func setups(t *testing.T, dir string) map[string]*Setup {
	small := func() *Setup {
		return &Setup{
			Dir: dir, Listen: "127.0.0.1:18080", Admin: "127.0.0.1:19901", Files: 20_000, Clients: 1024, Routes: []string{"/predict"},
			Pools: []Pool{
				{Name: "blue", Version: "v1", Weight: 90, Endpoints: []string{"127.0.0.1:18001"}},
				{Name: "green", Version: "v2", Weight: 10, Endpoints: []string{"127.0.0.1:18002"}},
			},
		}
	}
	all := map[string]*Setup{
		"small": small(), "bodies": small(), "features": small(), "routes": small(), "endpoints": small(),
		"tls": small(), "h2": small(), "grpc": small(), "events": small(),
		"split": {
			Dir: dir, Listen: "127.0.0.1:18080", Admin: "127.0.0.1:19901", Files: 20_000, Clients: 1024, Routes: []string{"/predict"}, Affinity: true,
			Pools: []Pool{
				{Name: "variant-0", Version: "v1", Weight: 1, Endpoints: []string{"127.0.0.1:18001"}},
				{Name: "variant-1", Version: "v2", Weight: 1, Endpoints: []string{"127.0.0.1:18002"}},
				{Name: "variant-2", Version: "v3", Weight: 1, Endpoints: []string{"127.0.0.1:18003"}},
			},
		},
	}
	all["bodies"].LargeBodies = true
	all["features"].Features, all["features"].Affinity = true, true
	all["tls"].TLS, all["tls"].HTTP2 = true, true
	if _, err := all["tls"].MakeCertificate(dir); err != nil {
		t.Fatal(err)
	}
	all["h2"].HTTP2 = true
	all["grpc"].HTTP2, all["grpc"].GRPC, all["grpc"].Routes = true, true, []string{"/weir.bench.Endpoint"}
	all["events"].Events = true
	all["one pool"] = small()
	all["one pool"].Pools = []Pool{{Name: "pods", Version: "v1", Weight: 1, Endpoints: []string{"127.0.1.1:18001", "127.0.1.2:18001"}}}
	all["one pool"].NoEjection = true
	all["routes"].Routes = nil
	for i := range 200 {
		all["routes"].Routes = append(all["routes"].Routes, fmt.Sprintf("/models/model-%d", i))
	}
	all["endpoints"].Pools[0].Endpoints = []string{"127.0.1.1:18001", "127.0.1.2:18001", "127.0.1.3:18001"}
	return all
}

func TestWeirConfigIsValid(t *testing.T) {
	for name, s := range setups(t, t.TempDir()) {
		text, err := Render("weir.yaml", s)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := config.Parse("weir.yaml", text); err != nil {
			t.Errorf("%s: %v\n%s", name, err, text)
		}
	}
}

// The programs themselves take their configurations, without a warning.
func TestPeersTakeTheirConfigurations(t *testing.T) {
	check := map[string]func(dir string) []string{
		"nginx.conf": func(dir string) []string {
			return []string{"nginx", "-t", "-q", "-e", "stderr", "-c", dir + "/nginx.conf"}
		},
		"haproxy.cfg": func(dir string) []string { return []string{"haproxy", "-c", "-q", "-f", dir + "/haproxy.cfg"} },
	}
	// Caddy takes minutes to build, so that it is checked where that was done.
	if caddy, err := filepath.Abs(filepath.Join("..", "..", "bin", "caddy")); err != nil {
		t.Fatal(err)
	} else if _, err := os.Stat(caddy); err == nil {
		check["Caddyfile"] = func(dir string) []string {
			return []string{caddy, "validate", "--adapter", "caddyfile", "--config", dir + "/Caddyfile"}
		}
	}
	t.Setenv("PATH", os.Getenv("PATH")+":/usr/sbin")
	for name, s := range setups(t, t.TempDir()) {
		for _, file := range []string{"nginx.conf", "haproxy.cfg", "haproxy.map", "Caddyfile"} {
			text, err := Render(file, s)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(s.Dir, file), text, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		for file, command := range check {
			args := command(s.Dir)
			cmd := exec.Command(args[0], args[1:]...)
			cmd.Env = append(os.Environ(), "XDG_DATA_HOME="+s.Dir, "XDG_CONFIG_HOME="+s.Dir)
			out, err := cmd.CombinedOutput()
			if err != nil || strings.Contains(strings.ToLower(string(out)), "warn") {
				t.Errorf("%s, %s: %v: %s", name, file, err, out)
			}
		}
	}
}

func TestSharesAddUp(t *testing.T) {
	s := &Setup{Pools: []Pool{{Name: "a", Weight: 1}, {Name: "b", Weight: 2}, {Name: "c", Weight: 5}}}
	got := s.Shares()
	if len(got) != 3 || got[0].Percent != "12.50%" || got[1].Percent != "25.00%" || got[2].Percent != "*" {
		t.Errorf("shares %v", got)
	}
}

// A policy is written for the peer that it is meant for, and nothing where there is none.
func TestPolicies(t *testing.T) {
	s := setups(t, t.TempDir())["one pool"]
	for _, tt := range []struct{ policy, file, want string }{
		{"", "haproxy.cfg", "balance leastconn\n"},
		{"random(2)", "haproxy.cfg", "balance random(2)\n"},
		{"", "nginx.conf", "least_conn;"},
		{"peak_ewma", "weir.yaml", "    policy: peak_ewma\n"},
	} {
		s.Policy = tt.policy
		text, err := Render(tt.file, s)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(text), tt.want) {
			t.Errorf("%s with the policy %q has no %q:\n%s", tt.file, tt.policy, tt.want, text)
		}
	}
	s.Policy = ""
	if text, err := Render("weir.yaml", s); err != nil || strings.Contains(string(text), "policy:") {
		t.Errorf("without a policy: %v, %s; want weir's own default", err, text)
	}
}

func TestThereIsNoOtherPeer(t *testing.T) {
	if text, err := Render("apache.conf", &Setup{}); err == nil {
		t.Errorf("there is a configuration of Apache: %s", text)
	}
}

func TestBrief(t *testing.T) {
	for said, want := range map[string]string{
		"nginx version: nginx/1.22.1":                                        "1.22.1",
		"HAProxy version 2.6.12-1+deb12u4 2026/10/17 - https://haproxy.org/": "2.6.12-1+deb12u4 2026/10/17",
		"v2.11.9 h1:bhZtcRKQOq0fuLvEgCdPYvUxXyGn9kzjG4lh2332DTE=":            "v2.11.9",
		"weir v1 (go1.26.8, linux/amd64)":                                    "weir v1 (go1.26.8, linux/amd64)",
	} {
		if got := brief(said); got != want {
			t.Errorf("brief(%q) = %q, want %q", said, got, want)
		}
	}
}
