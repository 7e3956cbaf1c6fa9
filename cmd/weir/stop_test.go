package main

import (
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"weir/backend/backendtest"
)

// TestStopLosesNothing stops weir while many clients send as fast as they can and some requests take
// long. Whatever weir accepted is answered; then it exits 0.
func TestStopLosesNothing(t *testing.T) {
	var underWay atomic.Int64
	slow := backendtest.NewServer(t, backendtest.Behaviour{Respond: func(r *backendtest.Request) backendtest.Behaviour {
		if strings.HasPrefix(r.Target, "/predict/slow") {
			underWay.Add(1)
			return backendtest.Behaviour{Body: []byte("slow"), Latency: 700 * time.Millisecond}
		}
		return backendtest.Behaviour{Body: []byte("fast")}
	}})
	w := serve(t, strings.Replace(blueGreen(slow, endpoint(t, "green"), "blue: 1"), "path: /predict", "path_prefix: /predict", 1))

	var answered, slowAnswered atomic.Int64
	var clients sync.WaitGroup
	// post sends requests until weir no longer accepts connections, which is the only end there may be.
	post := func(path string, answered *atomic.Int64) {
		for transport := (&http.Transport{}); ; answered.Add(1) {
			reused := false
			trace := &httptrace.ClientTrace{GotConn: func(c httptrace.GotConnInfo) { reused = c.Reused }}
			req, err := http.NewRequestWithContext(httptrace.WithClientTrace(t.Context(), trace), "POST", "http://"+w.addr+path, strings.NewReader("x"))
			if err != nil {
				t.Error(err)
				return
			}
			resp, err := transport.RoundTrip(req)
			var dial *net.OpError
			if errors.As(err, &dial) && dial.Op == "dial" {
				return
			}
			if err != nil {
				t.Errorf("%s on a connection that served before (%v): %v", path, reused, err)
				return
			}
			body, err := io.ReadAll(resp.Body)
			_ = resp.Body.Close()
			if err != nil || resp.StatusCode != 200 || len(body) != 4 {
				t.Errorf("%s: %s %q %v", path, resp.Status, body, err)
				return
			}
		}
	}
	for range 4 {
		clients.Go(func() { post("/predict", &answered) })
	}
	for range 8 {
		clients.Go(func() { post("/predict/slow", &slowAnswered) })
	}
	eventually(t, "requests under way", func() bool { return answered.Load() > 50 && underWay.Load() >= 8 })
	w.signal(syscall.SIGTERM)
	clients.Wait()
	if status := w.exit(); status != 0 {
		t.Errorf("exit %d", status)
	}
	if got := slowAnswered.Load(); got < 8 {
		t.Errorf("%d slow requests answered, want at least the 8 under way", got)
	}
	if got, want := int64(w.out.count()), answered.Load()+slowAnswered.Load(); got != want {
		t.Errorf("%d lines in the access log for %d answers", got, want)
	}
	if len(w.log.find(t, "stopped")) != 1 {
		t.Errorf("log: %s", w.log.text())
	}
}

func TestNotReadyWhileStopping(t *testing.T) {
	hanging := backendtest.NewServer(t, backendtest.Behaviour{Latency: time.Second})
	w := serve(t, blueGreen(hanging, endpoint(t, "green"), "blue: 1"))
	answer := make(chan error, 1)
	go func() {
		resp, err := http.Get("http://" + w.addr + "/predict")
		if err == nil {
			_ = resp.Body.Close()
		}
		answer <- err
	}()
	hanging.Await("the request", func(c backendtest.Counts) bool { return c.Requests == 1 })
	w.signal(syscall.SIGTERM)
	eventually(t, "not ready any more", func() bool { return w.api("GET", "/health/ready", "", nil) == 503 })
	if code := w.api("GET", "/health/live", "", nil); code != 200 {
		t.Errorf("live: %d while stopping", code)
	}
	if code := w.api("POST", "/api/v1/reload", "", nil); code != 503 {
		t.Errorf("reload: %d while stopping", code)
	}
	if err := <-answer; err != nil {
		t.Error(err)
	}
	if status := w.exit(); status != 0 {
		t.Errorf("exit %d", status)
	}
}

func TestStopHasItsLimits(t *testing.T) {
	for _, tt := range []struct {
		name    string
		timeout string
		signals int
		says    string
	}{
		{"deadline", "300ms", 1, "not everything was finished within --drain-timeout 300ms"},
		{"second signal", "1h", 2, "quit at once by a second signal"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			hanging := backendtest.NewServer(t, backendtest.Behaviour{Fault: backendtest.FaultHangBeforeHead})
			file := blueGreen(hanging, endpoint(t, "green"), "blue: 1")
			w := serve(t, file, "--drain-timeout", tt.timeout)
			conn, err := net.Dial("tcp", w.addr)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = conn.Close() }()
			if _, err := io.WriteString(conn, "GET /predict HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
				t.Fatal(err)
			}
			hanging.Await("the request", func(c backendtest.Counts) bool { return c.Requests == 1 })
			w.signal(syscall.SIGTERM)
			eventually(t, "weir is stopping", func() bool { return strings.Contains(w.log.text(), "stopping") })
			for range tt.signals - 1 {
				w.signal(syscall.SIGINT)
			}
			if status := w.exit(); status != 1 || !strings.Contains(w.log.text(), tt.says) {
				t.Errorf("exit %d, %s", status, w.log.text())
			}
		})
	}
}
