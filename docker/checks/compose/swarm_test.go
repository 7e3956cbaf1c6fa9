package compose_test

import (
	"strings"
	"testing"

	"github.com/docker/cli/cli/compose/loader"
	stack "github.com/docker/cli/cli/compose/types"
)

// loadStack is what "docker stack deploy" does with a file before it asks the swarm: another loader than Compose's, of an
// older schema.
func loadStack(text string) (*stack.Config, error) {
	keys, err := loader.ParseYAML([]byte(text))
	if err != nil {
		return nil, err
	}
	return loader.Load(stack.ConfigDetails{WorkingDir: folder + "/swarm", ConfigFiles: []stack.ConfigFile{{Filename: "stack.yaml", Config: keys}}, Environment: map[string]string{}})
}

func TestStackDeployTakesTheFile(t *testing.T) {
	text := read(t, "swarm/stack.yaml")
	config, err := loadStack(text)
	if err != nil {
		t.Fatal(err)
	}
	if len(config.Services) != 3 || len(config.Configs) != 2 || len(config.Secrets) != 2 {
		t.Errorf("it found %d services, %d configs, %d secrets", len(config.Services), len(config.Configs), len(config.Secrets))
	}
	// What it would take no notice of, and say so among other lines.
	for _, ignored := range []string{"build:", "container_name:", "depends_on:", "security_opt:", "restart:", "tmpfs:", "userns_mode:", "network_mode:"} {
		if strings.Contains(text, "\n    "+ignored) {
			t.Errorf("docker stack deploy ignores %s", ignored)
		}
	}
	// The loader is the one that refuses what only Compose knows.
	for _, line := range []string{"    profiles: [x]\n", "    depends_on: {weir: {condition: service_healthy}}\n"} {
		if _, err := loadStack(strings.Replace(text, "    stop_grace_period: 45s\n", "    stop_grace_period: 45s\n"+line, 1)); err == nil {
			t.Errorf("it takes %q", line)
		}
	}
}
