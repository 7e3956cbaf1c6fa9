package main

import (
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// TestGPUs runs the program where it finds a stand-in of NVIDIA's library, with two GPUs: its
// figures come to the metrics and to load reports, and an XID error makes the program not ready.
func TestGPUs(t *testing.T) {
	dir := t.TempDir()
	state := filepath.Join(dir, "state")
	build := exec.Command("gcc", "-shared", "-fPIC", "-o", filepath.Join(dir, "libnvidia-ml.so.1"), "../../backend/gpu/testdata/nvml.c")
	if said, err := build.CombinedOutput(); err != nil {
		t.Fatalf("gcc cannot build the stand-in: %v\n%s", err, said)
	}
	p := start(t, []string{"LD_LIBRARY_PATH=" + dir, "STANDIN_NVML=" + state}, "--model", "iris="+iris)
	base := p.base()
	get := func(path string) (int, string, http.Header) {
		t.Helper()
		req, err := http.NewRequest("GET", base+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("endpoint-load-metrics-format", "text")
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(body), resp.Header
	}
	// await asks until the page has the text; the GPUs are read every 2 s.
	await := func(path, text string) (status int, header http.Header) {
		t.Helper()
		deadline := time.Now().Add(60 * time.Second)
		for {
			status, body, header := get(path)
			if strings.Contains(body, text) {
				return status, header
			}
			if time.Now().After(deadline) {
				t.Fatalf("%s never had %s; it has\n%s", path, text, body)
			}
			time.Sleep(20 * time.Millisecond)
		}
	}
	await("/metrics", `ml_gpu_utilization_percent{device_id="1"} 80`)
	await("/metrics", `ml_gpu_power_watts{device_id="0"} 120.25`)
	if status, header := await("/health/ready", `"device_count":2`); status != 200 || !strings.Contains(header.Get("endpoint-load-metrics"), "utilization.gpu=0.8, utilization.gpu_memory=0.25") {
		t.Errorf("%d, and the load report %q", status, header.Get("endpoint-load-metrics"))
	}
	if err := os.WriteFile(state, []byte("xid79"), 0o600); err != nil {
		t.Fatal(err)
	}
	if status, _ := await("/health/ready", "GPU fault: GPU 1: XID error 79; reset the GPU and restart"); status != 503 {
		t.Errorf("with a fault: %d", status)
	}
	if status, _, _ := get("/health/live"); status != 200 {
		t.Errorf("a GPU fault made the program not live: %d", status)
	}
	await("/metrics", `ml_gpu_xid_errors_total{device_id="1",xid="79"} 1`)

	if err := os.WriteFile(state, []byte("ecc"), 0o600); err != nil {
		t.Fatal(err)
	}
	await("/metrics", `ml_gpu_ecc_uncorrected_errors{device_id="0"} 3`)
	_, metrics, _ := get("/metrics")
	page, err := os.ReadFile("../../docs/gpus.md")
	if err != nil {
		t.Fatal(err)
	}
	names := regexp.MustCompile(`\bml_[a-z_]+[a-z]`).FindAllString(string(page), -1)
	if len(names) < 9 {
		t.Errorf("the page names %d metrics", len(names))
	}
	for _, name := range names {
		if !strings.Contains(metrics, "# HELP "+name+" ") {
			t.Errorf("the page names %s, which the metrics do not have", name)
		}
	}
}
