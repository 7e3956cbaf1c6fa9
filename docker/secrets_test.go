// Programs and scripts are run here, as they are built, without the race detector: under it the same would be seen once more.

//go:build !race

package docker_test

import (
	"bytes"
	"crypto/tls"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"weir/proxy/admin"
)

func makeSecrets(t *testing.T, args ...string) {
	t.Helper()
	if out, err := exec.Command("sh", append([]string{"secrets.sh"}, args...)...).CombinedOutput(); err != nil {
		t.Fatalf("secrets.sh %v: %v\n%s", args, err, out)
	}
}

func content(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestSecrets: weir's own reader takes its tokens, Prometheus brings the one that may only read, and what is there stays.
func TestSecrets(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "secrets")
	makeSecrets(t, folder)
	lines := regexp.MustCompile(`^ops:write:([0-9a-f]{64})\nprometheus:read:([0-9a-f]{64})\n$`).FindStringSubmatch(content(t, folder+"/weir-admin"))
	if lines == nil || lines[1] == lines[2] {
		t.Fatalf("weir-admin is %q", content(t, folder+"/weir-admin"))
	}
	if token, err := admin.FirstToken(folder + "/weir-admin"); err != nil || token != lines[1] {
		t.Errorf("weir's commands take %q from it, %v", token, err)
	}
	if got := content(t, folder+"/weir-metrics-token"); got != lines[2] {
		t.Errorf("weir-metrics-token is %q, want %q", got, lines[2])
	}
	for _, name := range []string{"db-password", "grafana-password"} {
		if got := content(t, folder+"/"+name); !regexp.MustCompile(`^[0-9a-f]{64}$`).MatchString(got) {
			t.Errorf("%s is %q", name, got)
		}
	}
	before := map[string]string{}
	all, err := os.ReadDir(folder)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range all {
		before[e.Name()] = content(t, folder+"/"+e.Name())
		info, err := e.Info()
		if err != nil || info.Mode().Perm()&^fs.FileMode(0o444) != 0 {
			t.Errorf("%s has mode %v, %v", e.Name(), info.Mode(), err)
		}
	}
	if info, err := os.Stat(folder); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the folder has mode %v, %v", info.Mode(), err)
	}

	makeSecrets(t, folder)
	for name, text := range before {
		if content(t, folder+"/"+name) != text {
			t.Errorf("%s was made again", name)
		}
	}
	// A new weir-admin has a new token for Prometheus.
	if err := os.Remove(folder + "/weir-admin"); err != nil {
		t.Fatal(err)
	}
	makeSecrets(t, folder)
	token := content(t, folder+"/weir-metrics-token")
	if token == lines[2] || !strings.Contains(content(t, folder+"/weir-admin"), "prometheus:read:"+token+"\n") {
		t.Errorf("weir-metrics-token is %q, and not of the new weir-admin", token)
	}
	// And the other way round: a token that was lost is that of weir-admin.
	if err := os.Remove(folder + "/weir-metrics-token"); err != nil {
		t.Fatal(err)
	}
	makeSecrets(t, folder, "weir-metrics-token")
	if content(t, folder+"/weir-metrics-token") != token {
		t.Error("weir-metrics-token is another than weir takes")
	}
	if err := exec.Command("sh", "secrets.sh", folder, "passwords").Run(); err == nil {
		t.Error("an unknown name is taken")
	}
}

// TestTrialCertificate is one that TLS takes, with its key.
func TestTrialCertificate(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "tls")
	makeSecrets(t, folder, "trial-certificate")
	pair, err := tls.LoadX509KeyPair(folder+"/tls.crt", folder+"/tls.key")
	if err != nil {
		t.Fatal(err)
	}
	if err := pair.Leaf.VerifyHostname("localhost"); err != nil {
		t.Error(err)
	}
	before := content(t, folder+"/tls.crt")
	makeSecrets(t, folder, "trial-certificate")
	if !bytes.Equal([]byte(before), []byte(content(t, folder+"/tls.crt"))) {
		t.Error("it was made again")
	}
	if left, err := os.ReadDir(folder); err != nil || len(left) != 2 {
		t.Errorf("%d files are there, %v", len(left), err)
	}
}
