// Package docker_test holds the tests of the files beside it that need nothing but weir and a shell. Those that need the
// loaders of Compose are in checks, a module of its own.
package docker_test

import (
	"path/filepath"
	"slices"
	"testing"

	"weir/config"
)

// TestConfigurations loads each file of weir of a stack with weir's own loader, as it is and with its variables set.
func TestConfigurations(t *testing.T) {
	files, err := filepath.Glob("weir/*.yaml")
	if err != nil || len(files) != 6 {
		t.Fatalf("%d files were found: %v", len(files), err)
	}
	loaded := map[string]*config.Config{}
	for _, file := range files {
		if loaded[filepath.Base(file)], err = config.Load(file); err != nil {
			t.Errorf("%v", err)
		}
	}
	t.Setenv("WEIR_STATE", t.TempDir())
	t.Setenv("WEIR_SECRETS", t.TempDir())
	for _, file := range files {
		if _, err := config.Load(file); err != nil {
			t.Errorf("with its variables set: %v", err)
		}
	}
	if t.Failed() {
		return
	}
	// Prometheus asks from another container, and an admin listener that others reach has tokens; elsewhere it is loopback.
	for name, cfg := range loaded {
		open := cfg.Admin.Address == ":9901"
		if open != slices.Contains([]string{"compose.yaml", "production.yaml", "swarm.yaml"}, name) || open != (cfg.Admin.TokenFile != "") {
			t.Errorf("%s: admin at %s, token file %q", name, cfg.Admin.Address, cfg.Admin.TokenFile)
		}
	}
}
