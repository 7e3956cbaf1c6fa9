package control

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
)

// registry stands in for the model registry of an MLflow tracking server: the part of its REST API 2.0 that weir uses, with
// what its documentation requires of requests, and the errors of the server.
type registry struct {
	t    *testing.T
	URL  string
	mu   sync.Mutex
	auth string // the header field Authorization that is asked for; "": none
	down bool   // it answers 503 to all
	// versions of the one model, digits, from 1; their runs have the metrics.
	versions []registered
	aliases  map[string]string
	runs     map[string]map[string]any
	changes  []string // that were made
}

type registered struct{ run, status, stage string }

func newRegistry(t *testing.T) *registry {
	m := &registry{
		t:        t,
		versions: []registered{{"run1", "READY", "Production"}, {"run2", "READY", "Staging"}, {"run3", "FAILED_REGISTRATION", "None"}, {"", "READY", "None"}, {"run5", "READY", "None"}},
		aliases:  map[string]string{"champion": "1", "challenger": "2"},
		runs:     map[string]map[string]any{"run1": {"accuracy": 0.91}, "run2": {"accuracy": 0.93, "recall": 0.88}, "run5": {"accuracy": "NaN"}},
	}
	s := httptest.NewServer(m)
	t.Cleanup(s.Close)
	m.URL = s.URL
	return m
}

// set changes the registry as somebody else would.
func (m *registry) set(f func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	f()
}

// state is what is called what: champion=1 Production=1.
func (m *registry) state() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	var s []string
	for alias, version := range m.aliases {
		s = append(s, alias+"="+version)
	}
	for i, v := range m.versions {
		if v.stage != "None" {
			s = append(s, fmt.Sprintf("%s=%d", v.stage, i+1))
		}
	}
	slices.Sort(s)
	return strings.Join(s, " ")
}

type mlflowFault struct {
	status        int
	code, message string
}

func (m *registry) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.down {
		http.Error(w, "upstream connect error", http.StatusServiceUnavailable)
		return
	}
	if m.auth != "" && r.Header.Get("Authorization") != m.auth {
		w.Header().Set("WWW-Authenticate", `Basic realm="mlflow"`)
		w.WriteHeader(http.StatusUnauthorized)
		_, _ = w.Write([]byte("You are not authenticated. Please see https://www.mlflow.org/docs/latest/auth/index.html on how to authenticate."))
		return
	}
	ask := map[string]any{}
	if r.Method == http.MethodGet {
		for name, v := range r.URL.Query() {
			ask[name] = v[0]
		}
	} else if r.Header.Get("Content-Type") != "application/json" || json.NewDecoder(r.Body).Decode(&ask) != nil {
		m.fail(w, mlflowFault{400, "BAD_REQUEST", "Bad Request. Content-Type header must be 'application/json'."})
		return
	}
	path, ok := strings.CutPrefix(r.URL.Path, "/api/2.0/mlflow/")
	answer, fault := m.answer(r.Method+" "+path, ask)
	if !ok {
		fault = mlflowFault{404, "ENDPOINT_NOT_FOUND", r.URL.Path}
	}
	if fault.status != 0 {
		m.fail(w, fault)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(answer)
}

func (m *registry) fail(w http.ResponseWriter, f mlflowFault) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(f.status)
	_ = json.NewEncoder(w).Encode(map[string]string{"error_code": f.code, "message": f.message})
}

// answer does what an endpoint of the API does.
func (m *registry) answer(endpoint string, ask map[string]any) (answer any, fault mlflowFault) {
	required := map[string][]string{
		"GET registered-models/alias": {"name", "alias"}, "POST registered-models/alias": {"name", "alias", "version"}, "DELETE registered-models/alias": {"name", "alias"},
		"GET registered-models/get": {"name"}, "POST registered-models/get-latest-versions": {"name"}, "GET model-versions/get": {"name", "version"},
		"POST model-versions/transition-stage": {"name", "version", "stage", "archive_existing_versions"}, "GET runs/get": {"run_id"},
	}
	fields, ok := required[endpoint]
	if !ok {
		return nil, mlflowFault{404, "ENDPOINT_NOT_FOUND", endpoint}
	}
	for _, f := range fields {
		if ask[f] == nil {
			return nil, mlflowFault{400, "INVALID_PARAMETER_VALUE", "Missing value for required parameter '" + f + "'."}
		}
	}
	text := func(name string) string { s, _ := ask[name].(string); return s }
	if endpoint == "GET runs/get" {
		figures, ok := m.runs[text("run_id")]
		if !ok {
			return nil, mlflowFault{404, "RESOURCE_DOES_NOT_EXIST", "Run with id=" + text("run_id") + " not found"}
		}
		metrics := []map[string]any{}
		for name, v := range figures {
			metrics = append(metrics, map[string]any{"key": name, "value": v, "timestamp": 1767323045000, "step": 0})
		}
		return map[string]any{"run": map[string]any{"info": map[string]any{"run_id": text("run_id")}, "data": map[string]any{"metrics": metrics}}}, fault
	}
	if text("name") != "digits" {
		return nil, mlflowFault{404, "RESOURCE_DOES_NOT_EXIST", "Registered Model with name=" + text("name") + " not found"}
	}
	number := 0
	if v := text("version"); v != "" {
		if _, err := fmt.Sscan(v, &number); err != nil || number < 1 || number > len(m.versions) {
			return nil, mlflowFault{404, "RESOURCE_DOES_NOT_EXIST", "Model Version (name=digits, version=" + v + ") not found"}
		}
	}
	switch endpoint {
	case "GET registered-models/alias":
		at, ok := m.aliases[text("alias")]
		if !ok {
			return nil, mlflowFault{400, "INVALID_PARAMETER_VALUE", "Registered model alias " + text("alias") + " not found."}
		}
		_, _ = fmt.Sscan(at, &number)
		return map[string]any{"model_version": m.version(number)}, fault
	case "POST registered-models/alias":
		m.aliases[text("alias")] = text("version")
		m.changes = append(m.changes, "alias "+text("alias")+" "+text("version"))
	case "DELETE registered-models/alias":
		delete(m.aliases, text("alias"))
		m.changes = append(m.changes, "no alias "+text("alias"))
	case "GET registered-models/get":
		model := map[string]any{"name": "digits"}
		var all []map[string]string
		for alias, version := range m.aliases {
			all = append(all, map[string]string{"alias": alias, "version": version})
		}
		if len(all) > 0 { // an empty list is left out
			model["aliases"] = all
		}
		return map[string]any{"registered_model": model}, fault
	case "POST registered-models/get-latest-versions":
		stages, _ := ask["stages"].([]any)
		for i := len(m.versions); i > 0; i-- {
			if slices.Contains(stages, any(m.versions[i-1].stage)) {
				return map[string]any{"model_versions": []any{m.version(i)}}, fault
			}
		}
	case "GET model-versions/get":
		return map[string]any{"model_version": m.version(number)}, fault
	case "POST model-versions/transition-stage":
		for i := range m.versions {
			if alone, _ := ask["archive_existing_versions"].(bool); alone && m.versions[i].stage == text("stage") {
				m.versions[i].stage = "Archived"
			}
		}
		m.versions[number-1].stage = text("stage")
		m.changes = append(m.changes, "stage "+text("version")+" "+text("stage"))
		return map[string]any{"model_version": m.version(number)}, fault
	}
	return map[string]any{}, fault
}

func (m *registry) version(number int) map[string]any {
	v := m.versions[number-1]
	answer := map[string]any{"name": "digits", "version": fmt.Sprint(number), "current_stage": v.stage, "status": v.status}
	if v.run != "" {
		answer["run_id"] = v.run
	}
	if v.status != "READY" {
		answer["status_message"] = "no artifacts"
	}
	return answer
}
