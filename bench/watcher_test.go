package bench

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"
)

// adminServer is the weights part of weir's admin API, for one route called predict.
func adminServer(t *testing.T) *Admin {
	t.Helper()
	var mu sync.Mutex
	route := Route{Name: "predict", Generation: 1, Variants: []Variant{{"blue", "v1", 90}, {"green", "v2", 10}}}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		switch r.Method + " " + r.URL.Path {
		case "GET /api/v1/routes/predict":
		case "PUT /api/v1/routes/predict/weights":
			var in struct {
				Weights map[string]float64 `json:"weights"`
				Reason  string             `json:"reason"`
			}
			body, _ := io.ReadAll(r.Body)
			if err := json.Unmarshal(body, &in); err != nil || len(in.Weights) != 2 {
				w.WriteHeader(http.StatusUnprocessableEntity)
				fmt.Fprintf(w, `{"error":"weights of %s","code":"bad_weights"}`, body)
				return
			}
			route.Generation++
			for i, v := range route.Variants {
				route.Variants[i].Weight = in.Weights[v.Pool]
			}
		default:
			w.WriteHeader(http.StatusNotFound)
			fmt.Fprint(w, `{"error":"no such route","code":"not_found"}`)
			return
		}
		_ = json.NewEncoder(w).Encode(route)
	}))
	t.Cleanup(s.Close)
	return NewAdmin(s.URL + "/")
}

func TestWatcherStartsAnewWhenWeightsChange(t *testing.T) {
	ctx := context.Background()
	admin := adminServer(t)
	now := time.Duration(0)
	clock := func() time.Duration { now += 10; return now }
	w := NewWatcher(admin, "predict", 10, clock)
	poll := func(wantChanged bool) {
		t.Helper()
		if changed, err := w.Poll(ctx); err != nil || changed != wantChanged {
			t.Fatalf("Poll = %v, %v; want %v", changed, err, wantChanged)
		}
	}
	poll(false) // asks at 10, knows at 20
	w.Add([]Sighting{{User: 1, Variant: "blue", Sent: 21, Done: 22}})
	poll(false) // at 30
	if seen, moved := w.Users(); seen["blue"] != 1 || moved != 0 {
		t.Errorf("users %v, moved %d; want one on blue", seen, moved)
	}
	if _, err := admin.SetWeights(ctx, "predict", map[string]float64{"blue": 50, "green": 50}, "test"); err != nil {
		t.Fatal(err)
	}
	w.Add([]Sighting{{User: 1, Variant: "green", Sent: 41, Done: 42}}) // moved by the change, not by weir
	poll(true)
	if w.Since() != now || w.Route().Weights()["green"] != 50 {
		t.Errorf("weights %v since %d; want green 50 since %d", w.Route().Weights(), w.Since(), now)
	}
	w.Add([]Sighting{{User: 1, Variant: "green", Sent: now + 1, Done: now + 2}})
	poll(false)
	if seen, moved := w.Users(); seen["green"] != 1 || len(seen) != 1 || moved != 0 {
		t.Errorf("users %v, moved %d; want one on green", seen, moved)
	}
}

func TestAdminErrorsSayWhatWasAnswered(t *testing.T) {
	admin := adminServer(t)
	if _, err := admin.Route(context.Background(), "absent"); err == nil || !strings.Contains(err.Error(), "no such route") {
		t.Errorf("error %v, want weir's own words", err)
	}
	if _, err := admin.SetWeights(context.Background(), "predict", map[string]float64{"blue": 1}, ""); err == nil || !strings.Contains(err.Error(), "422") {
		t.Errorf("error %v, want one that names 422", err)
	}
}
