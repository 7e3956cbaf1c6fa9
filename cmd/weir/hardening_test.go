package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// TestAdminAPIKeepsOthersOut sends to the admin listener, byte for byte, what a web page or a careless
// program could make it be sent; the weights must stay what they are.
func TestAdminAPIKeepsOthersOut(t *testing.T) {
	w := serve(t, blueGreen(endpoint(t, "blue"), endpoint(t, "green"), "blue: 1, green: 0"))
	const shift = `{"weights":{"blue":0,"green":1}}`
	request := func(header, body string) string {
		return fmt.Sprintf("PUT /api/v1/routes/predict/weights HTTP/1.1\r\n%s\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s", header, len(body), body)
	}
	const host, asJSON = "Host: localhost", "\r\nContent-Type: application/json"
	for _, tt := range []struct {
		name, bytes string
		status      int
	}{
		{"rebound name", request("Host: evil.example.com"+asJSON, shift), 403},
		{"page of another origin", request(host+asJSON+"\r\nOrigin: https://evil.example.com", shift), 403},
		{"sandboxed page", request(host+asJSON+"\r\nOrigin: null", shift), 403},
		{"no content type", request(host, shift), 415},
		{"a form's content type", request(host+"\r\nContent-Type: text/plain", shift), 415},
		{"unknown key", request(host+asJSON, `{"weights":{"blue":0,"green":1},"forse":true}`), 400},
		{"two documents", request(host+asJSON, shift+shift), 400},
		{"variant left out", request(host+asJSON, `{"weights":{"green":1}}`), 422},
		{"negative", request(host+asJSON, `{"weights":{"blue":-1,"green":1}}`), 422},
		{"sum 0", request(host+asJSON, `{"weights":{"blue":0,"green":0}}`), 422},
		{"infinite sum", request(host+asJSON, `{"weights":{"blue":1e308,"green":1e308}}`), 422},
		{"unknown route", strings.Replace(request(host+asJSON, shift), "predict", "nope", 1), 404},
		{"wrong method", strings.Replace(request(host+asJSON, shift), "PUT", "POST", 1), 405},
		{"1 GiB announced", strings.Replace(request(host+asJSON, `{"reason":"`+strings.Repeat("x", 1<<20)), "Content-Length: ", "Content-Length: 107374", 1), 413},
		{"no Host", "GET /api/v1/status HTTP/1.1\r\nConnection: close\r\n\r\n", 400},
		{"huge head", "GET / HTTP/1.1\r\nHost: localhost\r\nX: " + strings.Repeat("x", 100<<10) + "\r\n\r\n", 431},
		{"path traversal", "GET /api/v1/../../etc/passwd HTTP/1.0\r\nHost: localhost\r\n\r\n", 307},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := exchange(t, strings.TrimPrefix(w.admin, "http://"), tt.bytes); got != tt.status {
				t.Errorf("got %d, want %d", got, tt.status)
			}
		})
	}
	if s := w.state(); s.Generation != 1 || s.Routes[0].Variants[1].Weight != 0 {
		t.Errorf("something got through: %+v", s.Routes[0])
	}
	if got := exchange(t, strings.TrimPrefix(w.admin, "http://"), request(host+asJSON, shift)); got != 200 {
		t.Errorf("the same request without a fault: %d", got)
	}
}

// exchange sends bytes on a connection of their own and returns the status of the answer.
func exchange(t *testing.T, address, bytes string) int {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if err := conn.SetDeadline(time.Now().Add(deadline)); err != nil {
		t.Fatal(err)
	}
	go func() { _, _ = io.WriteString(conn, bytes) }() // may be refused half way
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	return resp.StatusCode
}

// weir is pure Go, and a static binary: the model runtime and the GPU library belong to weir-backend.
func TestNoCgoIsLinked(t *testing.T) {
	cmd := exec.Command("go", "list", "-deps", "-f", "{{if .CgoFiles}}{{.ImportPath}}{{end}}", ".")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if packages := strings.Fields(string(out)); len(packages) > 0 {
		t.Errorf("cgo in %v", packages)
	}
	cmd = exec.Command("go", "list", "-deps", ".")
	out, err = cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, dep := range strings.Fields(string(out)) {
		switch {
		case dep == "weir/backend/load", dep == "weir/backend/tensor": // what model servers say, and how they write numbers
		case strings.HasPrefix(dep, "weir/bench"), dep == "weir/backend", strings.HasPrefix(dep, "weir/backend/"),
			strings.Contains(dep, "onnxruntime"), strings.Contains(dep, "go-nvml"):
			t.Errorf("weir links %s", dep)
		}
	}
}
