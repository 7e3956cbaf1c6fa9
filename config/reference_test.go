package config

import (
	"encoding/json"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v4"
)

// referenceExample gives reference.yaml the values that have no default. It has every key.
const referenceExample = `
listeners:
  - address: "127.0.0.1:8080"
  - {address: "unix:/run/weir.sock", mode: "0660"}
  - address: "127.0.0.1:8443"
    tls:
      certificates: [{cert: weir.crt, key: weir.key}]
      ciphers: [TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256]
      client_ca: clients.crt
      client_auth: optional
  - address: "127.0.0.1:8444"
    tls:
      acme: {domains: [ml-api.example.com], email: ops@example.com, cache: acme, ca: acme-root.crt, accept_terms: true}
trusted_proxies: [10.0.0.0/8, 192.0.2.7]
admin:
  token_file: weir-admin.tokens
  tls: {cert: weir-admin.crt, key: weir-admin.key}
memory: {limit: 2GiB}
tracing: {otlp: "http://otel-collector:4318", headers: {X-Api-Key: "abc"}}
pools:
  blue:
    version: v1.0.0
    endpoints: ["127.0.0.1:8001", {address: "model-blue.example.com:8002", weight: 2, capacity: 200/s}]
    probe:
      json: {status: ok, checks.gpu.healthy: true}
      startup: {budget: 5m}
      inference: {path: /predict, body: '{"features":[0.5,1]}', json: {prediction: 3}, tolerance: 0, max_latency: 0s}
    load: {scrape: /metrics, names: {queue: queue_depth}}
    concurrency: {max: 100, queue: {size: 100}}
    circuit_breaker: {max_requests: 1024, max_pending: 128, max_retries: 3}
  green:
    version: v2.0.0
    endpoints: ["127.0.0.1:8003", "unix:/run/green.sock"]
    policy: hash
    hash: {key: "header:X-User-ID"}
    proxy_protocol: v2
    probe: {model: fashion/3}
    concurrency: {adaptive: {}}
    tls: {ca: models.crt, cert: weir-client.crt, key: weir-client.key, server_name: models.example.com}
  triton:
    endpoints: ["127.0.0.1:8005"]
    protocol: http2
    probe: {grpc: {service: inference.GRPCInferenceService}}
    load: {preset: triton}
  vllm:
    discover: {dns: "vllm.default.svc:8000", server: "10.96.0.10:53"}
    scale: {max: 10, targets: {inflight: 8, queue: 2, utilization: 70, requests: 20/s, p95: 2s}}
  shadow:
    endpoints: ["127.0.0.1:8004"]
    probe: off
routes:
  - name: predict
    match: {host: ml-api.example.com, path: /predict, methods: [POST], headers: {X-Tenant: acme}}
    split: {blue: 90, green: 10}
    rollout:
      checks:
        requests: [{path: /predict, body: '{"features":[0.5,1]}', json: {prediction: 3}, shape: {prediction: number, probabilities: [10]}}]
        gates:
          - webhook: "https://ci.example.com/release"
          - command: [/etc/weir/release.sh, --strict]
          - mlflow: {url: "http://mlflow.example.com:5000", model: digits, alias: challenger}
          - mlflow: {url: "http://mlflow.example.com:5000", model: digits, version: 12, metrics: {accuracy: ">= 0.9"}, set_alias: champion, set_stage: Production, token_file: mlflow.token}
      analysis:
        error_rate: {tolerate: 1%}
        slo: {latency: 50ms}
        latency: {}
        prometheus:
          - {name: refunds, url: "http://prometheus.example.com:9090", query: 'sum(rate(refunds_total{version="2"}[1m]))', max: 0.5, min: 0, token_file: prometheus.token}
        agreement: {min: 99%}
        drift: {max_psi: 0.2, max_ks: 0.15, model: digits}
        gpu: {max_utilization: 90%, max_memory: 95%}
        experiment: {}
      notify: "https://hooks.example.com/weir"
    allow: [10.0.0.0/8]
    deny: [10.1.0.0/16, 10.2.0.1]
    auth:
      basic: {file: users.htpasswd}
      api_key: {file: api.keys}
      jwt: {jwks: jwks.json, issuer: "https://login.example.com", audience: weir, claims: {role: admin}}
    cors: {origins: ["https://app.example.com", "https://*.example.org"]}
    affinity: {key: "header:X-User-ID"}
    experiment:
      control: blue
      layer: {name: ranking}
      force: X-Weir-Arm
      outcomes: [{name: success, from: status}, {name: score, from: "json:output.score"}, {name: bought, from: api}]
      allocation: {}
    limits: {body: 4MiB}
    rate_limit:
      rate: 10/s
      burst: 20
      total: {rate: 1000/s, burst: 2000}
      tiers: {gold: {rate: 100/s, burst: 200, keys: [192.0.2.0/24]}}
      tier_by: jwt:plan
    hedge: {}
    concurrency: {max: 200, queue: {size: 100}}
    cache: {ttl: 60s, key: ["header:X-Tenant"]}
    mirror: {pool: shadow, percent: 5}
    headers:
      request: {set: {X-Env: prod, X-User: "{user}"}, add: {Via: weir}, remove: [X-Debug]}
      response: {set: {X-Model-Version: "{version}"}, add: {Vary: Origin}, remove: [Server]}
    rewrite: {strip_prefix: /api, add_prefix: /v1}
    compress: {}
  - name: models
    match: {host: "*.example.com", path_prefix: /v2/models}
    split: {blue: 99.5, green: 0.5}
    affinity: {key: "cookie:session", fallback: client_ip}
    retry: {attempts: 3, on: [connect, reset, timeout, 429, 5xx, unavailable], backoff: 100ms}
    rate_limit: {key: "header:X-Tenant", rate: 600/m}
    concurrency: {key: client_ip, max: 10, total: 200}
    priority: {header: X-Priority}
    cache: {ttl: {200: 5m, 404: 5s}}
    mirror: {pool: shadow, percent: 100, compare: {fields: [outputs.0.data]}}
    rewrite: {regex: "^/v2/(.*)$", replacement: /$1}
    websocket: {max: 1000}
    access_log: {percent: 10}
  - name: calls
    match: {grpc: {service: inference.GRPCInferenceService, method: ModelInfer}, model: fashion, model_version: "2"}
    split: {green: 1}
  - name: versions
    match: {path_regex: '^/v[0-9]+/infer$'}
    split: {green: 1}
    rewrite: {path: /predict}
  - name: old
    match: {path_prefix: /old}
    redirect: {to: "https://{host}/new"}
  - name: secure
    match: {headers: {X-Forwarded-Proto: http}}
    redirect: {https: true}
  - name: robots
    match: {path: /robots.txt}
    respond: {body: "User-agent: *\nDisallow: /\n", headers: {Cache-Control: max-age=3600}}
`

const referenceHead = `# reference.yaml: every key of weir.yaml with its default and meaning.
#
# A file needs only listeners, pools and routes. Keys without a default stand with an example.
# Unknown keys, duplicate keys and wrong types are faults; "weir check FILE" shows all of them.
#
# Durations have units (10s, 1m30s, 500ms). Sizes are bytes (65536) or have units: KiB, MiB and
# GiB are powers of 1024, KB, MB and GB powers of 1000. Values may hold environment variables:
# ${VAR}, ${VAR:-default} or ${VAR:?message}; $$ is a plain dollar sign. Inside [ ] and { } they
# need quotes. Anchors, aliases, merge keys and tags of YAML are not supported.
#
# Written from the key table in the code by "go test ./config -run Reference -update".

`

func TestReferenceIsCurrent(t *testing.T) {
	const path = "reference.yaml"
	want := writeReference(t)
	if *update {
		if err := os.WriteFile(path, []byte(want), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff(want, readTest(t, path)); diff != "" {
		t.Errorf("%s is not what the key table says; write it anew with -update (-want +got):\n%s", path, diff)
	}
}

func TestReferenceLoads(t *testing.T) {
	c, err := Load("reference.yaml")
	if err != nil {
		t.Fatal(err)
	}
	example, err := Parse("reference.yaml", []byte(referenceExample))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(example, c, byText); diff != "" {
		t.Errorf("what reference.yaml shows differs from the defaults (-defaults +reference):\n%s", diff)
	}
}

// TestReferenceHasEveryKey reads the file as any YAML tool would and compares its keys, and
// the defaults in its comments, with the key table.
func TestReferenceHasEveryKey(t *testing.T) {
	var document yaml.Node
	if err := yaml.Load([]byte(readTest(t, "reference.yaml")), &document); err != nil {
		t.Fatal(err)
	}
	keys := tableKeys(t)
	first := map[string]*yaml.Node{} // the first key node of each path
	values := map[string][]string{}
	walkKeys(document.Content[0], "", func(path string, name, value *yaml.Node) {
		if first[path] == nil {
			first[path] = name
		}
		values[path] = append(values[path], valueText(value))
	})
	for _, path := range slices.Sorted(maps.Keys(keys)) {
		name := first[path]
		if name == nil {
			t.Errorf("%s is not in reference.yaml", path)
			continue
		}
		comment := strings.Join(strings.Fields(strings.ReplaceAll(name.HeadComment, "#", "")), " ")
		if comment == "" {
			t.Errorf("%s has no comment", path)
		}
		standard, ok := keys[path]["default"]
		if !ok {
			continue
		}
		if want := "Default: " + standardText(standard) + "."; !strings.Contains(comment, want) {
			t.Errorf("the comment of %s is %q, want %q in it", path, comment, want)
		}
		if values[path][0] != standardText(standard) && path != "pools.*.endpoints[].weight" && path != "routes[].access_log.percent" {
			t.Errorf("%s shows %s first, want its default %v", path, values[path][0], standard)
		}
	}
}

// tableKeys returns the schema of every key by its path, with [] for any item of a list
// and * for any name.
func tableKeys(t *testing.T) map[string]schema {
	t.Helper()
	var root schema
	if err := json.Unmarshal(Schema(), &root); err != nil {
		t.Fatal(err)
	}
	keys := map[string]schema{}
	var walk func(s schema, path string)
	walk = func(s schema, path string) {
		for name, property := range properties(s) {
			keys[join(path, name)] = property
			walk(property, join(path, name))
		}
		if items, ok := s["items"].(schema); ok {
			walk(items, path+"[]")
		}
		if named, ok := s["additionalProperties"].(schema); ok {
			walk(named, join(path, "*"))
		}
	}
	walk(root, "")
	if len(keys) < 40 {
		t.Fatalf("only %d keys in the schema", len(keys))
	}
	return keys
}

// properties returns the keys of an object's schema, or of the alternative that is an object.
func properties(s schema) map[string]schema {
	found := map[string]schema{}
	alternatives, _ := s["anyOf"].([]any)
	for _, alternative := range append(alternatives, s) {
		known, _ := alternative.(schema)["properties"].(schema)
		for name, property := range known {
			found[name] = property.(schema)
		}
	}
	return found
}

func join(path, name string) string { return strings.TrimPrefix(path+"."+name, ".") }

// walkKeys visits the keys of a YAML tree under the paths that tableKeys uses.
func walkKeys(n *yaml.Node, path string, visit func(path string, name, value *yaml.Node)) {
	switch n.Kind {
	case yaml.SequenceNode:
		for _, c := range n.Content {
			walkKeys(c, path+"[]", visit)
		}
	case yaml.MappingNode:
		for i := 0; i < len(n.Content); i += 2 {
			at := join(path, n.Content[i].Value)
			switch path {
			case "pools", "routes[].split", "routes[].match.headers", "routes[].rate_limit.tiers":
				at = path + ".*"
			}
			visit(at, n.Content[i], n.Content[i+1])
			walkKeys(n.Content[i+1], at, visit)
		}
	}
}
