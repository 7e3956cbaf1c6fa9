package compose_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/compose-spec/compose-go/v2/types"
)

// TestGuideSettingsAreKept compares what the guide's files say with these: names, ports, variables, health checks and
// limits are what somebody's scripts may rely upon.
func TestGuideSettingsAreKept(t *testing.T) {
	type service struct {
		file, name    string
		ports         string // published:target
		env           map[string]string
		health        [3]time.Duration // interval, timeout, start period
		cpus          string
		memory        types.UnitBytes
		replicas      int
		containerName string
	}
	const GiB = 1 << 30
	for _, want := range []service{
		{file: "compose.blue.yaml", name: "ml-api-blue", ports: "8001:8000", containerName: "ml-api-blue", cpus: "2", memory: 2 * GiB, replicas: 1,
			env: map[string]string{"MODEL_VERSION": "v1.0.0", "ENVIRONMENT": "blue"}, health: [3]time.Duration{10 * time.Second, 3 * time.Second, time.Minute}},
		{file: "compose.green.yaml", name: "ml-api-green", ports: "8002:8000", containerName: "ml-api-green", cpus: "2", memory: 2 * GiB, replicas: 1,
			env: map[string]string{"MODEL_VERSION": "v2.0.0", "ENVIRONMENT": "green"}, health: [3]time.Duration{10 * time.Second, 3 * time.Second, time.Minute}},
		{file: "compose.canary.yaml", name: "ml-api-production", cpus: "1", memory: 2 * GiB, replicas: 9},
		{file: "compose.canary.yaml", name: "ml-api-canary", cpus: "1", memory: 2 * GiB, replicas: 1},
		{file: "compose.canary.yaml", name: "weir", ports: "80:8080", replicas: 1},
		{file: "compose.yaml", name: "blue", ports: "8001:8001", replicas: 1, env: map[string]string{"MODEL_PATH": "/models/fashion-v1.onnx"}},
		{file: "compose.yaml", name: "green", ports: "8002:8001", replicas: 1, env: map[string]string{"MODEL_PATH": "/models/fashion-v2.onnx"}},
		{file: "compose.yaml", name: "weir", ports: "8080:8080 9901:9901", replicas: 1},
		{file: "compose.production.yaml", name: "weir", ports: "80:8080 443:8443 9901:9901", replicas: 1},
		{file: "compose.production.yaml", name: "ml-api", cpus: "2", memory: 4 * GiB, replicas: 5,
			env:    map[string]string{"LOG_LEVEL": "info", "REDIS_URL": "redis://redis:6379", "MLFLOW_TRACKING_URI": "http://mlflow:5000"},
			health: [3]time.Duration{30 * time.Second, 10 * time.Second, time.Minute}},
		{file: "compose.production.yaml", name: "mlflow", ports: "5000:5000", replicas: 1},
		{file: "compose.production.yaml", name: "prometheus", ports: "9090:9090", replicas: 1},
		{file: "compose.production.yaml", name: "grafana", ports: "3000:3000", replicas: 1},
		{file: "compose.production.yaml", name: "kibana", ports: "5601:5601", replicas: 1},
		{file: "compose.logging.yaml", name: "fluent-bit", ports: "24224:24224", replicas: 1},
		{file: "compose.fluentd.yaml", name: "fluentd", ports: "24224:24224 24224:24224", replicas: 1, env: map[string]string{"FLUENTD_CONF": "fluent.conf"}},
		{file: "swarm/stack.yaml", name: "ml-api", cpus: "2", memory: 4 * GiB, replicas: 3, health: [3]time.Duration{30 * time.Second, 10 * time.Second, time.Minute}},
		{file: "swarm/stack.yaml", name: "weir", ports: "8000:8080", replicas: 1},
	} {
		s, ok := load(t, want.file).Services[want.name]
		if !ok {
			t.Errorf("%s has no service %s", want.file, want.name)
			continue
		}
		at := want.file + ": " + want.name
		var ports []string
		for _, p := range s.Ports {
			ports = append(ports, fmt.Sprintf("%s:%d", p.Published, p.Target))
		}
		if got := strings.Join(ports, " "); got != want.ports {
			t.Errorf("%s: ports %q, want %q", at, got, want.ports)
		}
		for key, value := range want.env {
			if got := s.Environment[key]; got == nil || *got != value {
				t.Errorf("%s: %s is not %s", at, key, value)
			}
		}
		if want.health[0] != 0 {
			h := s.HealthCheck
			got := [3]time.Duration{time.Duration(*h.Interval), time.Duration(*h.Timeout), time.Duration(*h.StartPeriod)}
			if got != want.health || *h.Retries != 3 {
				t.Errorf("%s: health check %v and %d retries, want %v and 3", at, got, *h.Retries, want.health)
			}
		}
		if limits := s.Deploy.Resources.Limits; want.cpus != "" && (fmt.Sprint(limits.NanoCPUs.Value()) != want.cpus || limits.MemoryBytes != want.memory) {
			t.Errorf("%s: limits %v CPUs and %d bytes, want %s and %d", at, limits.NanoCPUs, limits.MemoryBytes, want.cpus, want.memory)
		}
		if s.GetScale() != want.replicas || s.ContainerName != want.containerName {
			t.Errorf("%s: %d replicas named %q, want %d named %q", at, s.GetScale(), s.ContainerName, want.replicas, want.containerName)
		}
	}
}

// TestUpdateAndRollback: the guide's parallelism, delays and what comes of a failure.
func TestUpdateAndRollback(t *testing.T) {
	for _, file := range []string{"compose.production.yaml", "swarm/stack.yaml"} {
		d := load(t, file).Services["ml-api"].Deploy
		u, r := d.UpdateConfig, d.RollbackConfig
		if u == nil || r == nil {
			t.Errorf("%s: no update_config or no rollback_config", file)
			continue
		}
		if *u.Parallelism != 1 || time.Duration(u.Delay) != 30*time.Second || u.FailureAction != "rollback" || time.Duration(u.Monitor) != time.Minute {
			t.Errorf("%s: update_config is %+v", file, u)
		}
		if *r.Parallelism != 1 || time.Duration(r.Delay) != 10*time.Second {
			t.Errorf("%s: rollback_config is %+v", file, r)
		}
		if u.Order != "start-first" || r.Order != "start-first" {
			t.Errorf("%s: a task is stopped before the next has started", file)
		}
	}
}

// TestNamesAreShared: Prometheus and weir find what they ask by names; those have to be the stacks'.
func TestNamesAreShared(t *testing.T) {
	network := func(file, network string) map[string]bool {
		names := map[string]bool{}
		for _, s := range load(t, file).Services {
			if n, ok := s.Networks[network]; ok {
				names[s.Name] = true
				if n != nil {
					for _, alias := range n.Aliases {
						names[alias] = true
					}
				}
			}
		}
		return names
	}
	for file, in := range map[string]struct {
		network string
		names   []string
	}{
		"compose.yaml":            {"ml-network", []string{"weir", "blue", "green", "prometheus", "grafana"}},
		"compose.production.yaml": {"backend", []string{"weir", "blue", "green", "prometheus", "grafana", "alertmanager", "node-exporter"}},
	} {
		names := network(file, in.network)
		for _, want := range in.names {
			if !names[want] {
				t.Errorf("%s: nobody on %s is called %s", file, in.network, want)
			}
		}
	}
}

// TestCheckFindsFaults holds the checks to what they are for.
func TestCheckFindsFaults(t *testing.T) {
	good := `name: x
services:
  a:
    image: busybox:1.37.0
    command: [sh, /here/main_test.sh]
    volumes: ["./here:/here:ro"]
    security_opt: ["no-new-privileges:true"]
    healthcheck: {test: [CMD, "true"], interval: 1s, timeout: 1s, retries: 1}
    depends_on: {tokens: {condition: service_completed_successfully}}
    ports: ["127.0.0.1:80:80"]
    deploy: {resources: {limits: {memory: 1M}}}
    environment: {KEY: value}
    secrets: [db-password]
  tokens: {image: "busybox:1.37.0"}
secrets: {db-password: {file: secrets/db-password}}
`
	at := t.TempDir()
	if err := os.MkdirAll(at+"/here", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(at+"/here/main_test.sh", nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ was, is, fault string }{
		{"", "", ""},
		{"image: busybox:1.37.0", "image: busybox", "has no version"},
		{"image: busybox:1.37.0", "image: busybox:latest", "has no version"},
		{"image: busybox:1.37.0", "image: x:dev", "is built nowhere"},
		{"./here:/here:ro", "./gone:/here:ro", "no such file"},
		{"./here:/here:ro", "./here:/here", "may write to"},
		{"/here/main_test.sh", "/here/gone.sh", "its command names"},
		{`security_opt: ["no-new-privileges:true"]`, "privileged: true", "is privileged"},
		{`test: [CMD, "true"]`, "disable: true", "a has no health check"},
		{"service_completed_successfully", "service_healthy", "which is not asked"},
		{`tokens: {image: "busybox:1.37.0"}`, `tokens: {image: "busybox:1.37.0", restart: always}`, "which never ends"},
		{`tokens: {image: "busybox:1.37.0"}`, `tokens: {image: "busybox:1.37.0", profiles: [x]}`, "which is not always there"},
		{"127.0.0.1:80:80", "80:80", "is open to others"},
		{"deploy: {resources: {limits: {memory: 1M}}}", "", "no limit of memory"},
		{"KEY: value", "DB_PASSWORD: value", "holds a secret"},
		{"secrets/db-password", "secrets/other", "makes no other"},
		{"secrets/db-password", "db-password", "is not in docker/secrets"},
	} {
		if !strings.Contains(good, test.was) {
			t.Fatalf("%q is not in the good file", test.was)
		}
		path := filepath.Join(at, "compose.yaml")
		if err := os.WriteFile(path, []byte(strings.Replace(good, test.was, test.is, 1)), 0o644); err != nil {
			t.Fatal(err)
		}
		project, err := loadFile(t.Context(), path)
		if err != nil {
			t.Errorf("%q: %v", test.is, err)
			continue
		}
		faults := strings.Join(check(project, []string{"db-password"}, "compose.yaml"), "\n")
		if !strings.Contains(faults, test.fault) || test.fault == "" && faults != "" {
			t.Errorf("%q in the place of %q: faults %q, want %q", test.is, test.was, faults, test.fault)
		}
	}
}
