package config

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v4"
)

func compileSchema(t testing.TB) *jsonschema.Schema {
	t.Helper()
	document, err := jsonschema.UnmarshalJSON(bytes.NewReader(Schema()))
	if err != nil {
		t.Fatal(err)
	}
	compiler := jsonschema.NewCompiler()
	if err := compiler.AddResource("weir.schema.json", document); err != nil {
		t.Fatal(err)
	}
	compiled, err := compiler.Compile("weir.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	return compiled
}

// plainValue reads a file as an editor would, without weir's loader. It fails for files
// that are no JSON in the clothes of YAML.
func plainValue(data []byte) (any, error) {
	var value any
	if err := yaml.Load(data, &value); err != nil {
		return nil, err
	}
	text, err := json.Marshal(withTextKeys(value))
	if err != nil {
		return nil, err
	}
	return jsonschema.UnmarshalJSON(bytes.NewReader(text))
}

// withTextKeys has all keys as texts, as JSON has them: statuses are numbers to YAML.
func withTextKeys(value any) any {
	switch value := value.(type) {
	case map[any]any:
		texts := map[string]any{}
		for k, v := range value {
			texts[fmt.Sprint(k)] = withTextKeys(v)
		}
		return texts
	case map[string]any:
		for k, v := range value {
			value[k] = withTextKeys(v)
		}
	case []any:
		for i, v := range value {
			value[i] = withTextKeys(v)
		}
	}
	return value
}

func TestSchemaAcceptsGoodFiles(t *testing.T) {
	compiled := compileSchema(t)
	for _, path := range append(files(t, "good"), "reference.yaml") {
		value, err := plainValue([]byte(readTest(t, path)))
		if err != nil {
			t.Fatal(err)
		}
		if err := compiled.Validate(value); err != nil {
			t.Errorf("%s: %v", path, err)
		}
	}
}

func TestSchemaAcceptsEffectiveConfiguration(t *testing.T) {
	compiled := compileSchema(t)
	for _, path := range files(t, "good") {
		c, err := parse("weir.yaml", []byte(readTest(t, path)), testEnvironment)
		if err != nil {
			t.Fatal(err)
		}
		for form, render := range map[string]func(*Config) ([]byte, error){"YAML": Render, "JSON": RenderJSON} {
			data, err := render(c)
			if err != nil {
				t.Fatal(err)
			}
			value, err := plainValue(data)
			if err != nil {
				t.Fatal(err)
			}
			if err := compiled.Validate(value); err != nil {
				t.Errorf("%s rendered as %s: %v", path, form, err)
			}
		}
	}
}

// TestSchemaRefusesBadFiles says for each bad file whether the schema sees its fault. What
// it cannot see holds between values, or in the environment, or is beyond a pattern.
func TestSchemaRefusesBadFiles(t *testing.T) {
	invisible := []string{
		"admin_not_loopback.yaml",
		"anchor.yaml",
		"anchored_key.yaml",
		"around_between.yaml",
		"connections.yaml",
		"duplicate_endpoint.yaml",
		"duplicate_header.yaml",
		"duplicate_listener.yaml",
		"duplicate_match.yaml",
		"duplicate_match_everything.yaml",
		"duplicate_method.yaml",
		"duplicate_route.yaml", "experiment_between.yaml", "header_edits.yaml",
		"long_text.yaml",
		"merge_key.yaml",
		"outlier_between.yaml",
		"own_listener.yaml",
		"retry_between.yaml", "rollout_auto_between.yaml", "rollout_between.yaml", "rollout_thresholds_between.yaml",
		"route_body.yaml",
		"scale_between.yaml",
		"sockets_between.yaml", "state_over_others.yaml",
		"trusted_proxies.yaml",
		"unknown_pool.yaml",
		"variables.yaml",
	}
	compiled := compileSchema(t)
	accepted := map[string]bool{}
	for _, path := range files(t, "bad") {
		value, err := plainValue([]byte(readTest(t, path)))
		if err == nil && compiled.Validate(value) == nil {
			accepted[filepath.Base(path)] = true
		}
	}
	if diff := cmp.Diff(invisible, slices.Sorted(maps.Keys(accepted))); diff != "" {
		t.Errorf("bad files that the schema accepts (-want +got):\n%s", diff)
	}
}

func TestSchemaShowsDefaults(t *testing.T) {
	keys := tableKeys(t)
	f := func(path string, want any) {
		t.Helper()
		if diff := cmp.Diff(want, keys[path]["default"]); diff != "" {
			t.Errorf("default of %s (-want +got):\n%s", path, diff)
		}
	}
	f("listeners[].timeouts.header", "10s")
	f("listeners[].limits.connections", float64(100000))
	f("listeners[].limits.uri", "16KiB")
	f("admin.address", "127.0.0.1:9901")
	f("admin.token_file", nil)
	f("state.file", "weir.state.json")
	f("pools.*.endpoints[].capacity", nil)
	f("pools.*.policy", "prequal")
	f("pools.*.probe.status", "200-299")
	f("pools.*.outlier.ejection", "30s")
	f("pools.*.outlier.max_ejected_percent", float64(50))
	f("pools.*.slow_start", "0s")
	f("routes[].retry.on", []any{"connect", "reset"})
	f("routes[].retry.attempts", float64(2))
	f("routes[].rate_limit.key", "client_ip")
	f("routes[].rate_limit.rate", nil)
	f("routes[].rate_limit.burst", nil)
	f("routes[].match.methods", nil)
	f("pools.*.endpoints[].weight", float64(1))
	f("routes[].timeouts.total", "5m")
	f("routes[].affinity.fallback", "random")
	f("routes[].limits.body", nil)
	f("routes[].name", nil)
	f("listeners[].address", nil)
	f("memory.keep_alive_percent", float64(80))
	f("pools.*.probe.inference.interval", "30s")
	f("pools.*.probe.startup.interval", nil)
	f("pools.*.concurrency.queue.order", "fifo")
	f("pools.*.circuit_breaker.max_pending", nil)
	f("routes[].timeouts.header", "X-Request-Timeout")
	f("routes[].hedge.delay", "p95")
	f("routes[].concurrency.key", "route")
	f("routes[].cache.methods", []any{"GET", "HEAD"})
	f("routes[].cache.coalesce", true)
	f("routes[].mirror.compare.tolerance", 0.0001)
	f("routes[].redirect.status", float64(308))
	f("routes[].auth.jwt.algorithms", []any{"RS256", "ES256", "EdDSA"})
	f("routes[].compress.min_size", "1KiB")
}
