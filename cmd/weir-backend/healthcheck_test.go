package main

import (
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// TestHealthcheck asks servers in every state as the image's health check does, the last of them a real one.
func TestHealthcheck(t *testing.T) {
	answering := func(status int, body string) string {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != "/health/ready" || r.Method != http.MethodGet {
				status = http.StatusTeapot
			}
			w.WriteHeader(status)
			_, _ = w.Write([]byte(body))
		}))
		t.Cleanup(s.Close)
		return s.Listener.Addr().String()
	}
	gone, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	gone.Close()
	running := start(t, nil, "--model", "iris="+iris).base()

	for _, test := range []struct {
		name    string
		address string
		status  int
		out     string
		message string
	}{
		{"ready", answering(200, "{\"ready\":true}\n"), exitOK, "{\"ready\":true}\n", ""},
		{"loading", answering(503, `{"ready":false}`), exitFailed, "", `is not ready: 503 Service Unavailable {"ready":false}`},
		{"another server", answering(404, ""), exitFailed, "", "404 Not Found"},
		{"redirected", answering(301, ""), exitFailed, "", "301"},
		{"nobody there", gone.Addr().String(), exitFailed, "", "connection refused"},
		{"no port", "localhost", exitUsage, "", `"localhost" is not HOST:PORT`},
		{"a real one", strings.TrimPrefix(running, "http://"), exitOK, `"ready":true`, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			var out, message strings.Builder
			if got := execute(t.Context(), []string{"healthcheck", test.address}, &out, &message); got != test.status {
				t.Errorf("exit status %d, want %d: %s", got, test.status, &message)
			}
			if !strings.Contains(out.String(), test.out) || test.out == "" && out.Len() > 0 {
				t.Errorf("it printed %q, want %q", &out, test.out)
			}
			if !strings.Contains(message.String(), test.message) || test.message == "" && message.Len() > 0 {
				t.Errorf("it said %q, want %q", &message, test.message)
			}
		})
	}
}
