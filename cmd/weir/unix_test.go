package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"

	"weir/backend/backendtest"
)

// TestUnixSocketOfTheProgram: a listener on a Unix socket goes from weir to weir in a takeover, outlives a kill, and is gone
// after a clean stop. An endpoint on one is steered like any other.
func TestUnixSocketOfTheProgram(t *testing.T) {
	path, model := backendtest.SocketPath(t), backendtest.SocketPath(t)
	l, err := net.Listen("unix", model)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "model") })}
	go server.Serve(l)
	t.Cleanup(func() { server.Close() })
	text := blueGreen(endpoint(t, "blue"), endpoint(t, "green"), "blue: 1, green: 0")
	text = strings.Replace(text, `[{address: "127.0.0.1:0"}]`, fmt.Sprintf(`[{address: "127.0.0.1:0"}, {address: "unix:%s"}]`, path), 1)
	text = strings.Replace(text, "v1.0.0, endpoints: [", fmt.Sprintf("v1.0.0, endpoints: [%q, ", "unix:"+model), 1)
	ask := func() string {
		t.Helper()
		c := http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(context.Context, string, string) (net.Conn, error) { return net.Dial("unix", path) }}}
		resp, err := c.Post("http://h/predict", "", strings.NewReader("x"))
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, _ := io.ReadAll(resp.Body)
		return string(body)
	}
	gone := func() bool { _, err := os.Lstat(path); return errors.Is(err, fs.ErrNotExist) }

	w := serve(t, text)
	if !strings.Contains(w.log.text(), `"unix:`+path+`"`) {
		t.Errorf("the log does not say where it listens:\n%s", w.log.text())
	}
	w.mustCommand("drain", "blue", "unix:"+model)
	for range 3 {
		if got := ask(); got != "blue" {
			t.Errorf("%q while the endpoint drains, want blue", got)
		}
	}
	w.mustCommand("undrain", "blue", "unix:"+model)
	eventually(t, "the endpoint's turn", func() bool { return ask() == "model" })

	next := takeOver(t, w)
	if code := w.exit(); code != 0 || gone() {
		t.Fatalf("the old weir exits with %d; the socket is gone: %v", code, gone())
	}
	ask()
	next.signal(syscall.SIGKILL)
	next.exit()
	if gone() {
		t.Error("the socket is gone after a kill")
	}
	last := serveFile(t, w.file)
	ask()
	last.signal(syscall.SIGTERM)
	if code := last.exit(); code != 0 || !gone() {
		t.Errorf("exit %d after a clean stop; the socket is gone: %v", code, gone())
	}
}
