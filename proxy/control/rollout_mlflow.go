package control

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"

	"weir/config"
)

// mlflow is the model registry of an MLflow tracking server, by its REST API 2.0.
type mlflow struct {
	client *http.Client
	base   string
	auth   string // the header field Authorization; "": none
}

// newMLflow reads the token, so that a new one needs no restart.
func newMLflow(client *http.Client, base, tokenFile string) (*mlflow, error) {
	auth, err := authorization(tokenFile)
	return &mlflow{client: client, base: strings.TrimRight(base, "/") + "/api/2.0/mlflow/", auth: auth}, err
}

// mlflowError is what MLflow answers instead.
type mlflowError struct {
	status        int
	code, message string
}

// Error implements error.
func (e *mlflowError) Error() string {
	text := "MLflow answered " + strconv.Itoa(e.status)
	if e.code != "" {
		text += " " + e.code
	}
	return text + after(": ", e.message)
}

// call asks for a path below the API. What is asked with GET stands in the query, all else in a body of JSON.
func (m *mlflow) call(ctx context.Context, method, path string, ask map[string]any, into any) error {
	var body []byte
	to := m.base + path
	if method == http.MethodGet {
		query := url.Values{}
		for name, v := range ask {
			query.Set(name, fmt.Sprint(v))
		}
		to += "?" + query.Encode()
	} else {
		var err error
		if body, err = json.Marshal(ask); err != nil {
			return err
		}
	}
	req, err := http.NewRequestWithContext(ctx, method, to, bytes.NewReader(body))
	if err != nil {
		return bare(err)
	}
	req.Header.Set("User-Agent", "weir")
	req.Header.Set("Accept", "application/json")
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if m.auth != "" {
		req.Header.Set("Authorization", m.auth)
	}
	status, answer, err := fetch(m.client, req)
	if err != nil {
		return fmt.Errorf("cannot ask MLflow: %w", err)
	}
	if status != http.StatusOK {
		var said struct {
			Code    string `json:"error_code"`
			Message string `json:"message"`
		}
		if json.Unmarshal(answer, &said) != nil {
			said.Message = string(answer) // a proxy in front of it, or its sign-in
		}
		return &mlflowError{status, oneLine(said.Code), oneLine(said.Message)}
	}
	if into == nil {
		return nil
	}
	if err := json.Unmarshal(answer, into); err != nil {
		return fmt.Errorf("what MLflow answered to %s cannot be read: %w", path, err)
	}
	return nil
}

// modelVersion is what is read of a version of a registered model.
type modelVersion struct {
	Version string `json:"version"`
	RunID   string `json:"run_id"`
	Status  string `json:"status"`
	Message string `json:"status_message"`
	Stage   string `json:"current_stage"`
}

// version finds a version by its number, or the one that an alias is at where that is not "".
func (m *mlflow) version(ctx context.Context, model, number, alias string) (modelVersion, error) {
	var a struct {
		Version modelVersion `json:"model_version"`
	}
	var err error
	if alias != "" {
		err = m.call(ctx, http.MethodGet, "registered-models/alias", map[string]any{"name": model, "alias": alias}, &a)
	} else {
		err = m.call(ctx, http.MethodGet, "model-versions/get", map[string]any{"name": model, "version": number}, &a)
	}
	if err == nil && a.Version.Version == "" {
		err = errors.New("MLflow answered without a model_version")
	}
	return a.Version, err
}

// number is a figure as protobuf writes it in JSON: one that is none stands as a text.
type number float64

// UnmarshalJSON implements json.Unmarshaler.
func (n *number) UnmarshalJSON(text []byte) error {
	f, err := strconv.ParseFloat(strings.Trim(string(text), `"`), 64)
	*n = number(f)
	return err
}

// metrics are the last figures of a run.
func (m *mlflow) metrics(ctx context.Context, run string) (map[string]float64, error) {
	var a struct {
		Run struct {
			Data struct {
				Metrics []struct {
					Key   string `json:"key"`
					Value number `json:"value"`
				} `json:"metrics"`
			} `json:"data"`
		} `json:"run"`
	}
	if err := m.call(ctx, http.MethodGet, "runs/get", map[string]any{"run_id": run}, &a); err != nil {
		return nil, err
	}
	figures := map[string]float64{}
	for _, f := range a.Run.Data.Metrics {
		figures[f.Key] = float64(f.Value)
	}
	return figures, nil
}

// aliased is the version that an alias of the model is at; "" where there is no such alias.
func (m *mlflow) aliased(ctx context.Context, model, alias string) (string, error) {
	var a struct {
		Model struct {
			Aliases []struct {
				Alias   string `json:"alias"`
				Version string `json:"version"`
			} `json:"aliases"`
		} `json:"registered_model"`
	}
	if err := m.call(ctx, http.MethodGet, "registered-models/get", map[string]any{"name": model}, &a); err != nil {
		return "", err
	}
	for _, one := range a.Model.Aliases {
		if one.Alias == alias {
			return one.Version, nil
		}
	}
	return "", nil
}

// setAlias moves an alias to a version, or takes it away where that is "".
func (m *mlflow) setAlias(ctx context.Context, model, alias, version string) error {
	if version == "" {
		return m.call(ctx, http.MethodDelete, "registered-models/alias", map[string]any{"name": model, "alias": alias}, nil)
	}
	return m.call(ctx, http.MethodPost, "registered-models/alias", map[string]any{"name": model, "alias": alias, "version": version}, nil)
}

// staged is the latest version in a stage; "" where there is none.
func (m *mlflow) staged(ctx context.Context, model, stage string) (string, error) {
	var a struct {
		Versions []modelVersion `json:"model_versions"`
	}
	err := m.call(ctx, http.MethodPost, "registered-models/get-latest-versions", map[string]any{"name": model, "stages": []string{stage}}, &a)
	if err != nil || len(a.Versions) == 0 {
		return "", err
	}
	return a.Versions[0].Version, nil
}

// setStage moves a version to a stage; alone moves those that are there to Archived.
func (m *mlflow) setStage(ctx context.Context, model, version, stage string, alone bool) error {
	return m.call(ctx, http.MethodPost, "model-versions/transition-stage",
		map[string]any{"name": model, "version": version, "stage": stage, "archive_existing_versions": alone}, nil)
}

// askMLflow looks at a model's version. It returns what it found, and what is to be called after the version later.
func askMLflow(ctx context.Context, client *http.Client, g *config.MLflowGate, poolVersion string) (said string, move *registryMove, err error) {
	m, err := newMLflow(client, g.URL, g.TokenFile)
	if err != nil {
		return "", nil, err
	}
	number := strconv.Itoa(g.Version)
	if g.Version == 0 {
		number = poolVersion
	}
	if g.Alias == "" && !versionNumber.MatchString(number) {
		return "", nil, fmt.Errorf("the version of the pool is %q, which is no number; write mlflow.version or mlflow.alias", number)
	}
	v, err := m.version(ctx, g.Model, number, g.Alias)
	if err != nil {
		return "", nil, err
	}
	if v.Status != "" && v.Status != "READY" {
		return "", nil, fmt.Errorf("version %s is %s, not READY%s", v.Version, v.Status, after(": ", oneLine(v.Message)))
	}
	said = "version " + v.Version
	if g.Alias != "" {
		said += ", " + g.Alias
	}
	if len(g.Metrics) > 0 {
		within, err := m.within(ctx, v, g.Metrics)
		if err != nil {
			return "", nil, err
		}
		said += ": " + within
	}
	if g.SetAlias != "" || g.SetStage != "" {
		move = &registryMove{URL: g.URL, TokenFile: g.TokenFile, Model: g.Model, Version: v.Version, Alias: g.SetAlias, Stage: g.SetStage}
	}
	return said, move, nil
}

var versionNumber = regexp.MustCompile(`^[1-9][0-9]*$`)

// within holds the metrics of a version's run to their bounds. It returns the figures, or all that are not within.
func (m *mlflow) within(ctx context.Context, v modelVersion, bounds []config.MetricBound) (string, error) {
	if v.RunID == "" {
		return "", fmt.Errorf("version %s comes from no run, so it has no metrics", v.Version)
	}
	figures, err := m.metrics(ctx, v.RunID)
	if err != nil {
		return "", err
	}
	var good, bad []string
	for _, b := range bounds {
		f, ok := figures[b.Name]
		text := b.Name + " " + strconv.FormatFloat(f, 'g', 6, 64)
		switch {
		case !ok:
			bad = append(bad, b.Name+" is missing, want "+b.String())
		case !b.Holds(f):
			bad = append(bad, text+", want "+b.String())
		default:
			good = append(good, text)
		}
	}
	if len(bad) > 0 {
		return "", fmt.Errorf("version %s: %s", v.Version, strings.Join(bad, "; "))
	}
	return strings.Join(good, ", "), nil
}
