// Programs and scripts are run here, as they are built, without the race detector: under it the same would be seen once more.

//go:build !race

// Package docker_test holds the tests of the files beside it that need nothing but weir and a shell. Those that need the
// loaders of Compose are in checks, a module of its own.
package docker_test

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
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
	// The autoscaler asks within the bounds that weir answers in.
	for _, pool := range loaded["swarm.yaml"].Pools {
		if s := pool.Scale; s == nil || s.Min != 2 || s.Max != 10 {
			t.Errorf("swarm.yaml: the scale of pool %s is %+v", pool.Name, s)
		}
	}
	// Prometheus asks from another container, and an admin listener that others reach has tokens; elsewhere it is loopback.
	for name, cfg := range loaded {
		open := cfg.Admin.Address == ":9901"
		if open != slices.Contains([]string{"compose.yaml", "production.yaml", "swarm.yaml"}, name) || open != (cfg.Admin.TokenFile != "") {
			t.Errorf("%s: admin at %s, token file %q", name, cfg.Admin.Address, cfg.Admin.TokenFile)
		}
	}
}

// TestEndpointsAreServices: what weir sends to is a service of the stack that the file is for, at a port where it listens.
func TestEndpointsAreServices(t *testing.T) {
	for file, stacks := range map[string][]string{
		"weir/compose.yaml":    {"compose.yaml"},
		"weir/blue-green.yaml": {"compose.blue.yaml", "compose.green.yaml", "compose.proxy.yaml"},
		"weir/canary.yaml":     {"compose.canary.yaml"},
		"weir/logging.yaml":    {"compose.logging.yaml"},
		"weir/production.yaml": {"compose.production.yaml"},
		"weir/swarm.yaml":      {"swarm/stack.yaml"},
	} {
		cfg, err := config.Load(file)
		if err != nil {
			t.Fatal(err)
		}
		text := ""
		for _, stack := range stacks {
			b, err := os.ReadFile(stack)
			if err != nil {
				t.Fatal(err)
			}
			text += string(b)
		}
		for _, address := range addresses(cfg) {
			host, port, _ := strings.Cut(strings.TrimPrefix(address, "tasks."), ":")
			if !regexp.MustCompile(`(?m)^  ` + host + `:|aliases: \[` + host + `\]`).MatchString(text) {
				t.Errorf("%s sends to %s, which is no service of %v", file, address, stacks)
			}
			if !strings.Contains(text, `--listen, ":`+port+`"`) {
				t.Errorf("%s sends to %s, and nobody of %v listens at port %s", file, address, stacks, port)
			}
		}
	}
}

// addresses are those of all endpoints, and the names by which they are found.
func addresses(cfg *config.Config) (all []string) {
	for _, pool := range cfg.Pools {
		for _, e := range pool.Endpoints {
			all = append(all, e.Address)
		}
		if pool.Discover != nil {
			all = append(all, pool.Discover.DNS)
		}
	}
	return all
}
