package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// Admin reads and sets the weights of a running weir through its admin API.
type Admin struct {
	url    string
	client http.Client
}

// Route is what the load tester wants to know of a route.
type Route struct {
	Name       string    `json:"name"`
	Generation uint64    `json:"generation"` // of its last change
	Variants   []Variant `json:"variants"`
}

// Variant is a variant of a [Route].
type Variant struct {
	Pool    string  `json:"pool"`
	Version string  `json:"version"`
	Weight  float64 `json:"weight"`
}

// Weights returns the weights by the name of the variant.
func (r *Route) Weights() map[string]float64 {
	w := make(map[string]float64, len(r.Variants))
	for _, v := range r.Variants {
		w[v.Pool] = v.Weight
	}
	return w
}

// SameWeights reports whether two states of a route split requests alike.
func (r *Route) SameWeights(o *Route) bool { return maps.Equal(r.Weights(), o.Weights()) }

// NewAdmin returns a client of the admin API at base, such as http://127.0.0.1:9901.
func NewAdmin(base string) *Admin {
	return &Admin{url: strings.TrimRight(base, "/"), client: http.Client{Timeout: 5 * time.Second}}
}

// URL is what the client was made for.
func (a *Admin) URL() string { return a.url }

// Route returns the state of a route.
func (a *Admin) Route(ctx context.Context, name string) (*Route, error) {
	var r Route
	if err := a.call(ctx, http.MethodGet, "/api/v1/routes/"+url.PathEscape(name), nil, &r); err != nil {
		return nil, err
	}
	return &r, nil
}

// SetWeights sets the weights of a route, which must name all of its variants, and returns its
// new state. They hold for every request that arrives after.
func (a *Admin) SetWeights(ctx context.Context, route string, weights map[string]float64, reason string) (*Route, error) {
	body := struct {
		Weights map[string]float64 `json:"weights"`
		Reason  string             `json:"reason,omitempty"`
	}{weights, reason}
	var r Route
	if err := a.call(ctx, http.MethodPut, "/api/v1/routes/"+url.PathEscape(route)+"/weights", body, &r); err != nil {
		return nil, err
	}
	return &r, nil
}

// Rollout is what is shown of a rollout.
type Rollout struct {
	Phase  string     `json:"phase"`
	Step   int        `json:"step"`
	Steps  []struct{} `json:"steps"`
	Weight float64    `json:"weight"`
	Since  time.Time  `json:"since"` // of the phase or the step
	Why    string     `json:"why"`
	// Analysis is nil where nothing was judged yet.
	Analysis *Analysis `json:"analysis"`
}

// Analysis is what the analysis of a rollout has come to.
type Analysis struct {
	Canary RolloutCounts  `json:"canary"`
	Stable RolloutCounts  `json:"stable"`
	Checks []RolloutCheck `json:"checks"`
}

// RolloutCounts are the requests that were judged at one version, and how many failed.
type RolloutCounts struct {
	Requests uint64 `json:"requests"`
	Errors   uint64 `json:"errors"`
}

// RolloutCheck is one check of an analysis. The ratio of the versions lies between Low and High; nil: not known.
type RolloutCheck struct {
	Name  string   `json:"name"`
	Ratio *float64 `json:"ratio"`
	Low   *float64 `json:"low"`
	High  *float64 `json:"high"`
}

// Rollout returns the rollout of a route that is under way, or its last one.
func (a *Admin) Rollout(ctx context.Context, route string) (*Rollout, error) {
	var r Rollout
	if err := a.call(ctx, http.MethodGet, "/api/v1/routes/"+url.PathEscape(route)+"/rollout", nil, &r); err != nil {
		return nil, err
	}
	return &r, nil
}

// StartRollout begins to roll a route out to a variant.
func (a *Admin) StartRollout(ctx context.Context, route, to string) error {
	body := struct {
		To string `json:"to"`
	}{to}
	return a.call(ctx, http.MethodPost, "/api/v1/routes/"+url.PathEscape(route)+"/rollout", body, &struct{}{})
}

// AbortRollout gives the new version of a route up.
func (a *Admin) AbortRollout(ctx context.Context, route, reason string) error {
	body := struct {
		Reason string `json:"reason,omitempty"`
	}{reason}
	return a.call(ctx, http.MethodPost, "/api/v1/routes/"+url.PathEscape(route)+"/rollout/abort", body, &struct{}{})
}

// Outcome is what became of a request, for the experiment of its route.
type Outcome struct {
	RequestID string  `json:"request_id"`
	Name      string  `json:"name"`
	Value     float64 `json:"value"`
}

// ReportOutcomes tells outcomes of requests to the experiment of a route. Those that it does not know are no error.
func (a *Admin) ReportOutcomes(ctx context.Context, route string, outcomes []Outcome) error {
	body := struct {
		Outcomes []Outcome `json:"outcomes"`
	}{outcomes}
	return a.call(ctx, http.MethodPost, "/api/v1/routes/"+url.PathEscape(route)+"/experiment/outcomes", body, &struct{}{})
}

func (a *Admin) call(ctx context.Context, method, path string, in, out any) error {
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return err
		}
		body = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, a.url+path, body)
	if err != nil {
		return fmt.Errorf("admin API: %w", err)
	}
	if in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := a.client.Do(req)
	if err != nil {
		return fmt.Errorf("admin API: %w", err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return fmt.Errorf("admin API: %s %s: %w", method, path, err)
	}
	if resp.StatusCode/100 != 2 {
		return fmt.Errorf("admin API: %s %s: %s: %s", method, path, resp.Status, bytes.TrimSpace(answer[:min(len(answer), 500)]))
	}
	if err := json.Unmarshal(answer, out); err != nil {
		return fmt.Errorf("admin API: %s %s: %w", method, path, err)
	}
	return nil
}
