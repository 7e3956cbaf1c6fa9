package main

import (
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// secured is a server that speaks HTTP/1.1 and HTTP/2 over TLS and tells which as the variant; ca is a file
// with its certificate.
func secured(t *testing.T, h http.HandlerFunc) (url, ca string) {
	t.Helper()
	s := httptest.NewUnstartedServer(h)
	s.EnableHTTP2 = true
	s.StartTLS()
	t.Cleanup(s.Close)
	certificate := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
	return s.URL, file(t, "ca.crt", string(certificate))
}

func TestRunOverTLSAndHTTP2(t *testing.T) {
	url, ca := secured(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Weir-Variant", fmt.Sprintf("http%d", r.ProtoMajor))
	})
	quick := []string{"--target", url, "--arrivals", "constant", "--rate", "500", "--duration", "100ms", "--connections", "2"}
	for _, tt := range []struct {
		args    []string
		variant string
		streams int
	}{
		{[]string{"--ca-file", ca}, "http1", 0},
		{[]string{"--insecure"}, "http1", 0},
		{[]string{"--ca-file", ca, "--http2", "--streams", "4"}, "http2", 4},
	} {
		r := report(t, append(tt.args, quick...)...)
		if r.Total.OK != 50 || len(r.Variants) != 1 || r.Variants[0].Variant != tt.variant || r.Streams != tt.streams || r.Opened != 2 {
			t.Errorf("%v: %d of 50 well, %+v, %d streams, %d connections", tt.args, r.Total.OK, r.Variants, r.Streams, r.Opened)
		}
	}
	stdout, _, code := outcome(t, append([]string{"run", "--insecure", "--http2", "--streams", "4"}, quick...)...)
	if code != 0 || !strings.Contains(stdout, "2 connections of HTTP/2 with 4 streams each") {
		t.Errorf("exit status %d, %s", code, stdout)
	}
	if _, stderr, code := outcome(t, append([]string{"run"}, quick...)...); code != 1 || !strings.Contains(stderr, "certificate") {
		t.Errorf("a certificate that nobody knows: exit status %d, %q", code, stderr)
	}
}

// A method is called with the message of a file, and its status counts.
func TestRunCallsByGRPC(t *testing.T) {
	var code string
	url, ca := secured(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if r.URL.Path != "/a.B/C" || r.Header.Get("Content-Type") != "application/grpc" || r.Header.Get("TE") != "trailers" || string(body) != "\x00\x00\x00\x00\x02hi" {
			w.WriteHeader(400)
			return
		}
		w.Header().Set("Trailer", "Grpc-Status")
		_, _ = w.Write(body)
		w.Header().Set("Grpc-Status", code)
	})
	args := []string{
		"--target", url, "--ca-file", ca, "--grpc", "/a.B/C", "--body", file(t, "message", "hi"),
		"--arrivals", "constant", "--rate", "500", "--duration", "100ms",
	}
	code = "0"
	if r := report(t, args...); r.Total.OK != 50 {
		t.Errorf("status 0: %+v", r.Total)
	}
	code = "14"
	if r := report(t, args...); r.Total.OK != 0 || r.Total.ByKind["grpc Unavailable"] != 50 {
		t.Errorf("status 14: %+v", r.Total)
	}
}
