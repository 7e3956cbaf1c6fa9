package pipeline

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const root = "../../.."

// TestSmoke has each thing that can be wrong told.
func TestSmoke(t *testing.T) {
	for _, tt := range []struct {
		name, answer, variant string
		status                int
		slow                  time.Duration
		nowhere               string
		want                  string // "": it passes
	}{
		{"fine", `{"prediction":3}`, "blue", 200, 0, `{"code":"no_route"}`, ""},
		{"status", `{"error":"x"}`, "blue", 500, 0, `{"code":"no_route"}`, "answered 500"},
		{"no prediction", `{"outputs":[]}`, "blue", 200, 0, `{"code":"no_route"}`, "has no prediction"},
		{"no weir", `{"prediction":3}`, "", 200, 0, `{"code":"no_route"}`, "is weir before the model"},
		{"slow", `{"prediction":3}`, "blue", 200, 600 * time.Millisecond, `{"code":"no_route"}`, "want at most 0.3"},
		{"something else", `{"prediction":3}`, "blue", 200, 0, `<html>`, "a path without a route answered 404"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path != "/predict" {
					w.WriteHeader(http.StatusNotFound)
					_, _ = w.Write([]byte(tt.nowhere))
					return
				}
				var body struct{ Features []float64 }
				if err := json.NewDecoder(r.Body).Decode(&body); err != nil || len(body.Features) != 4 || r.Method != http.MethodPost {
					t.Errorf("was asked by %s with %v, %v", r.Method, body, err)
				}
				time.Sleep(tt.slow)
				if tt.variant != "" {
					w.Header().Set("X-Weir-Variant", tt.variant)
				}
				w.WriteHeader(tt.status)
				_, _ = w.Write([]byte(tt.answer))
			}))
			defer s.Close()
			cmd := exec.CommandContext(t.Context(), filepath.Join(root, "docker/pipeline/smoke.sh"), s.URL+"/")
			latency := "20"
			if tt.slow > 0 {
				latency = "0.3"
			}
			cmd.Env = append(os.Environ(), "TRIES=1", "LATENCY="+latency)
			out, err := cmd.CombinedOutput()
			if (err == nil) != (tt.want == "") || !strings.Contains(string(out), tt.want) {
				t.Errorf("%v:\n%s\nwant %q", err, out, tt.want)
			}
		})
	}
	out, err := exec.CommandContext(t.Context(), "env", "TRIES=1", filepath.Join(root, "docker/pipeline/smoke.sh"), "http://127.0.0.1:1").CombinedOutput()
	if err == nil || !strings.Contains(string(out), "answered 000") {
		t.Errorf("nobody listens there, and it says %v: %s", err, out)
	}
}

// TestNotify reads what Slack would be sent, and has a webhook that is not there fail nothing.
func TestNotify(t *testing.T) {
	got := make(chan string, 4)
	s := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		var message struct{ Text string }
		if err := json.NewDecoder(r.Body).Decode(&message); err != nil {
			t.Errorf("what was sent is no JSON: %v", err)
		}
		got <- message.Text
	}))
	defer s.Close()
	script := filepath.Join(root, "docker/pipeline/notify.sh")
	text := "To production\nAuthor: o'\"neill\\ $(id)\tA"
	for status, want := range map[string]string{
		"success": ":white_check_mark: Deployment success\nTo production\nAuthor: o'\"neill\\ $(id) A",
		"failure": ":x: Deployment failure\nTo production\nAuthor: o'\"neill\\ $(id) A",
	} {
		cmd := exec.CommandContext(t.Context(), script, status, text)
		cmd.Env = append(os.Environ(), "SLACK_WEBHOOK="+s.URL)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		if said := <-got; said != want {
			t.Errorf("said %q, want %q", said, want)
		}
	}
	for _, webhook := range []string{"", "http://127.0.0.1:1/hook"} {
		cmd := exec.CommandContext(t.Context(), script, "failure", text)
		cmd.Env = append(os.Environ(), "SLACK_WEBHOOK="+webhook)
		if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "notify: ") {
			t.Errorf("%q: %v\n%s", webhook, err, out)
		}
	}
}
