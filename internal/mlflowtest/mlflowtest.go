// Package mlflowtest stands in for the model registry of an MLflow tracking server, for tests.
package mlflowtest

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

// Registry stands in for the model registry of an MLflow tracking server: the part of its REST API 2.0 that weir uses, with
// what its documentation requires of requests, and the errors of the server.
type Registry struct {
	URL  string
	mu   sync.Mutex
	Auth string // the header field Authorization that is asked for; "": none
	Down bool   // it answers 503 to all
	// versions of the one model, digits, from 1; their runs have the metrics.
	Versions []Registered
	Aliases  map[string]string
	Runs     map[string]map[string]any
	Changes  []string // that were made
}

// Registered is a version: its run, status and stage.
type Registered struct{ Run, Status, Stage string }

// New starts a registry of one model, digits, with five versions. It ends with the test.
func New(t testing.TB) *Registry {
	m := &Registry{
		Versions: []Registered{{"run1", "READY", "Production"}, {"run2", "READY", "Staging"}, {"run3", "FAILED_REGISTRATION", "None"}, {"", "READY", "None"}, {"run5", "READY", "None"}},
		Aliases:  map[string]string{"champion": "1", "challenger": "2"},
		Runs:     map[string]map[string]any{"run1": {"accuracy": 0.91}, "run2": {"accuracy": 0.93, "recall": 0.88}, "run5": {"accuracy": "NaN"}},
	}
	s := httptest.NewServer(m)
	t.Cleanup(s.Close)
	m.URL = s.URL
	return m
}

// Set changes the registry as somebody else would.
func (m *Registry) Set(f func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	f()
}

// State is what is called what: champion=1 Production=1.
func (m *Registry) State() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	var s []string
	for alias, version := range m.Aliases {
		s = append(s, alias+"="+version)
	}
	for i, v := range m.Versions {
		if v.Stage != "None" {
			s = append(s, fmt.Sprintf("%s=%d", v.Stage, i+1))
		}
	}
	slices.Sort(s)
	return strings.Join(s, " ")
}

type mlflowFault struct {
	status        int
	code, message string
}

func (m *Registry) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.Down {
		http.Error(w, "upstream connect error", http.StatusServiceUnavailable)
		return
	}
	if m.Auth != "" && r.Header.Get("Authorization") != m.Auth {
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

func (m *Registry) fail(w http.ResponseWriter, f mlflowFault) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(f.status)
	_ = json.NewEncoder(w).Encode(map[string]string{"error_code": f.code, "message": f.message})
}

// answer does what an endpoint of the API does.
func (m *Registry) answer(endpoint string, ask map[string]any) (answer any, fault mlflowFault) {
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
		figures, ok := m.Runs[text("run_id")]
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
		if _, err := fmt.Sscan(v, &number); err != nil || number < 1 || number > len(m.Versions) {
			return nil, mlflowFault{404, "RESOURCE_DOES_NOT_EXIST", "Model Version (name=digits, version=" + v + ") not found"}
		}
	}
	switch endpoint {
	case "GET registered-models/alias":
		at, ok := m.Aliases[text("alias")]
		if !ok {
			return nil, mlflowFault{400, "INVALID_PARAMETER_VALUE", "Registered model alias " + text("alias") + " not found."}
		}
		_, _ = fmt.Sscan(at, &number)
		return map[string]any{"model_version": m.version(number)}, fault
	case "POST registered-models/alias":
		m.Aliases[text("alias")] = text("version")
		m.Changes = append(m.Changes, "alias "+text("alias")+" "+text("version"))
	case "DELETE registered-models/alias":
		delete(m.Aliases, text("alias"))
		m.Changes = append(m.Changes, "no alias "+text("alias"))
	case "GET registered-models/get":
		model := map[string]any{"name": "digits"}
		var all []map[string]string
		for alias, version := range m.Aliases {
			all = append(all, map[string]string{"alias": alias, "version": version})
		}
		if len(all) > 0 { // an empty list is left out
			model["aliases"] = all
		}
		return map[string]any{"registered_model": model}, fault
	case "POST registered-models/get-latest-versions":
		stages, _ := ask["stages"].([]any)
		for i := len(m.Versions); i > 0; i-- {
			if slices.Contains(stages, any(m.Versions[i-1].Stage)) {
				return map[string]any{"model_versions": []any{m.version(i)}}, fault
			}
		}
	case "GET model-versions/get":
		return map[string]any{"model_version": m.version(number)}, fault
	case "POST model-versions/transition-stage":
		for i := range m.Versions {
			if alone, _ := ask["archive_existing_versions"].(bool); alone && m.Versions[i].Stage == text("stage") {
				m.Versions[i].Stage = "Archived"
			}
		}
		m.Versions[number-1].Stage = text("stage")
		m.Changes = append(m.Changes, "stage "+text("version")+" "+text("stage"))
		return map[string]any{"model_version": m.version(number)}, fault
	}
	return map[string]any{}, fault
}

func (m *Registry) version(number int) map[string]any {
	v := m.Versions[number-1]
	answer := map[string]any{"name": "digits", "version": fmt.Sprint(number), "current_stage": v.Stage, "status": v.Status}
	if v.Run != "" {
		answer["run_id"] = v.Run
	}
	if v.Status != "READY" {
		answer["status_message"] = "no artifacts"
	}
	return answer
}
