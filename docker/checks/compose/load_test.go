// Package compose_test loads every Compose file of this repository with the loader that Compose itself uses, and checks
// what the loader does not: that what a file names is there.
package compose_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/cli"
	"github.com/compose-spec/compose-go/v2/types"
	"go.yaml.in/yaml/v4"
)

// folder is docker/.
const folder = "../.."

// stacks are all Compose files, with the services that each must have. compose.elastic.yaml is included by others.
var stacks = map[string][]string{
	"compose.yaml":            {"tokens", "weir", "blue", "green", "prometheus", "grafana", "bench"},
	"compose.blue.yaml":       {"ml-api-blue"},
	"compose.green.yaml":      {"ml-api-green"},
	"compose.proxy.yaml":      {"weir"},
	"compose.canary.yaml":     {"ml-api-production", "ml-api-canary", "weir"},
	"compose.elastic.yaml":    {"elasticsearch", "elasticsearch-setup", "kibana"},
	"compose.logging.yaml":    {"elasticsearch", "elasticsearch-setup", "fluent-bit", "kibana", "ml-api", "weir"},
	"compose.fluentd.yaml":    {"elasticsearch", "elasticsearch-setup", "fluentd", "kibana", "ml-api", "weir"},
	"compose.production.yaml": {"weir", "ml-api", "ml-api-green", "redis", "postgres", "mlflow", "prometheus", "alertmanager", "node-exporter", "grafana", "elasticsearch", "elasticsearch-setup", "kibana", "fluent-bit"},
	"swarm/stack.yaml":        {"ml-api", "weir", "autoscale"},
}

// load is what "docker compose -f FILE config" does, with every profile and no variables but those given.
func load(t *testing.T, file string, env ...string) *types.Project {
	t.Helper()
	project, err := loadFile(t.Context(), filepath.Join(folder, file), env...)
	if err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	return project
}

func loadFile(ctx context.Context, path string, env ...string) (*types.Project, error) {
	options, err := cli.NewProjectOptions([]string{path}, cli.WithName("checks"), cli.WithEnv(env), cli.WithProfiles([]string{"*"}),
		cli.WithInterpolation(true), cli.WithNormalization(true), cli.WithResolvedPaths(true), cli.WithConsistency(true))
	if err != nil {
		return nil, err
	}
	return options.LoadProject(ctx)
}

func TestEveryComposeFileIsChecked(t *testing.T) {
	for _, pattern := range []string{"*.yaml", "*.yml", "swarm/*.yaml"} {
		found, err := filepath.Glob(filepath.Join(folder, pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range found {
			name, _ := filepath.Rel(folder, path)
			if stacks[name] == nil {
				t.Errorf("docker/%s is not in the list of this test", name)
			}
		}
	}
}

func TestStacks(t *testing.T) {
	made := secrets(t)
	for file, services := range stacks {
		t.Run(file, func(t *testing.T) {
			project := load(t, file)
			want := slices.Sorted(slices.Values(services))
			if got := slices.Sorted(slices.Values(project.ServiceNames())); !slices.Equal(got, want) {
				t.Errorf("services %v, want %v", got, want)
			}
			for _, fault := range check(project, made, file) {
				t.Error(fault)
			}
			for _, fault := range top(t, file) {
				t.Error(fault)
			}
		})
	}
}

// secrets runs secrets.sh and returns what it makes.
func secrets(t *testing.T) []string {
	t.Helper()
	made := t.TempDir()
	out, err := exec.Command("sh", filepath.Join(folder, "secrets.sh"), made+"/secrets").CombinedOutput()
	if err != nil {
		t.Fatalf("secrets.sh: %v\n%s", err, out)
	}
	entries, err := os.ReadDir(made + "/secrets")
	if err != nil || len(entries) == 0 {
		t.Fatalf("secrets.sh made %d files: %v", len(entries), err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// top checks keys at the top of the file.
func top(t *testing.T, file string) (faults []string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(folder, file))
	if err != nil {
		t.Fatal(err)
	}
	var keys map[string]any
	if err := yaml.Unmarshal(text, &keys); err != nil {
		t.Fatal(err)
	}
	if keys["version"] != nil {
		faults = append(faults, "it has the key version, which Compose ignores and warns of")
	}
	// Two files of one folder would be one project, and each would remove the other's containers as orphans.
	if keys["name"] == nil && !strings.HasPrefix(file, "swarm/") {
		faults = append(faults, "it has no name")
	}
	return faults
}
