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
func setups(dir string) map[string]*Setup {
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
	all["routes"].Routes = nil
	for i := range 200 {
		all["routes"].Routes = append(all["routes"].Routes, fmt.Sprintf("/models/model-%d", i))
	}
	all["endpoints"].Pools[0].Endpoints = []string{"127.0.1.1:18001", "127.0.1.2:18001", "127.0.1.3:18001"}
	return all
}

func TestWeirConfigIsValid(t *testing.T) {
	for name, s := range setups(t.TempDir()) {
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
	for name, s := range setups(t.TempDir()) {
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

func TestThereIsNoOtherPeer(t *testing.T) {
	if text, err := Render("apache.conf", &Setup{}); err == nil {
		t.Errorf("there is a configuration of Apache: %s", text)
	}
}
