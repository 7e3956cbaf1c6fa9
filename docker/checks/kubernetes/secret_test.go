package kubernetes

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"weir/docker/checks/manifest"
	"weir/proxy/admin"
)

// TestTokens reads the tokens of both Secrets as weir does: the first is the operator's, and what each user is given is in
// the file. Those of production are new each time.
func TestTokens(t *testing.T) {
	development := map[string]string{}
	s := manifest.Named[corev1.Secret](build(t, filepath.Join(root, "overlays/development")), "weir-admin")
	for key, value := range s.Data {
		development[key] = string(value)
	}
	one, two := secret(t).StringData, secret(t).StringData
	for name, data := range map[string]map[string]string{"development": development, "production": one} {
		file := filepath.Join(t.TempDir(), "tokens")
		if err := os.WriteFile(file, []byte(data["tokens"]), 0o400); err != nil {
			t.Fatal(err)
		}
		first, err := admin.FirstToken(file)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if first != data["operator"] {
			t.Errorf("%s: the first token is not the operator's", name)
		}
		for who, may := range map[string]string{"operator": "write", "prometheus": "read", "keda": "read"} {
			if want := who + ":" + may + ":" + data[who]; !strings.Contains(data["tokens"]+"\n", want+"\n") {
				t.Errorf("%s: tokens has no line of %s that may %s", name, who, may)
			}
		}
	}
	for key := range one {
		if one[key] == two[key] {
			t.Errorf("%s is the same in two runs of admin-secret.sh", key)
		}
	}
}
