// Whole programs are run here, as they are built, without the race detector: under it the same would be seen once more.

//go:build !race

package compare

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// programs builds weir and weir-bench into a folder of the test's.
func programs(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	build := exec.CommandContext(t.Context(), "go", "build", "-buildvcs=false", "-o", dir+"/", "weir/cmd/weir", "weir/cmd/weir-bench")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	return dir
}

func TestCompare(t *testing.T) {
	dir := programs(t)
	t.Run("end to end", func(t *testing.T) { compareEndToEnd(t, dir) })
	t.Run("interrupted", func(t *testing.T) { compareInterrupted(t, dir) })
}

// A comparison as make bench does it, only much shorter, with real proxies.
func compareEndToEnd(t *testing.T, dir string) {
	tmp := t.TempDir()
	t.Setenv("TMPDIR", tmp)
	workloads, err := Find([]string{"b", "f", "idle", "features", "h2tls", "handshake", "grpc", "grpc_stream", "sse", "idle_tls", "idle_h2", "streams"})
	if err != nil {
		t.Fatal(err)
	}
	for i := range workloads {
		workloads[i].Idle = min(workloads[i].Idle, 200)
		if workloads[i].Memory {
			workloads[i].Connections, workloads[i].Every = 200, 20*time.Millisecond
		}
	}
	result, err := Run(context.Background(), Options{
		Programs: dir, Peers: []string{Direct, Nginx, HAProxy, Caddy, Weir}, Workloads: workloads,
		Rounds: 1, Duration: 500 * time.Millisecond, Warmup: 50 * time.Millisecond, Rest: 10 * time.Millisecond,
		Quota: DefaultQuota, Say: func(line string) { t.Log(line) },
	})
	if err != nil {
		t.Fatal(err)
	}
	// Caddy is not built here, and the comparison goes on without it.
	if want := len(workloads) * 4; len(result.Measurements) != want || len(result.Summary) != want {
		t.Errorf("%d measurements and %d in the summary, want %d", len(result.Measurements), len(result.Summary), want)
	}
	if !strings.Contains(strings.Join(result.Notes, "\n"), "without Caddy") {
		t.Errorf("notes %q do not say that Caddy is missing", result.Notes)
	}
	for _, s := range result.Summary {
		if s.Peer == Direct {
			continue
		}
		if s.CPU <= 0 || s.Rate <= 0 || s.P50 <= 0 || s.Resident < 1<<20 || s.CPURatio == nil || s.CPUToHAProxy == nil {
			t.Errorf("%s under %s: %+v; want figures above 0", s.Peer, s.Workload, s)
		}
		// A receive and a send on both sides, and not many more unless a body is large.
		if s.CallsBy == "tracepoint" && s.Workload == "b" && (s.Calls < 4 || s.Calls > 40) {
			t.Errorf("%s: %v system calls for a request", s.Peer, s.Calls)
		}
	}
	var text bytes.Buffer
	if err := result.Text(&text); err != nil {
		t.Fatal(err)
	}
	t.Log(text.String())
	nothingLeft(t, tmp)
}

// However a comparison ends, nothing of it is left.
func compareInterrupted(t *testing.T, dir string) {
	tmp := t.TempDir()
	t.Setenv("TMPDIR", tmp)
	workloads, err := Find([]string{"b"})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		// Once nginx has its folder, both are being started or run.
		for ctx.Err() == nil {
			if found, _ := filepath.Glob(filepath.Join(tmp, "weir-compare-*", "small", Nginx, "nginx.conf")); len(found) > 0 {
				break
			}
			time.Sleep(time.Millisecond)
		}
		time.Sleep(200 * time.Millisecond)
		cancel()
	}()
	defer cancel()
	_, err = Run(ctx, Options{
		Programs: dir, Peers: []string{Nginx, Weir}, Workloads: workloads, Rounds: 1, Duration: time.Hour, Quota: DefaultQuota,
		Say: func(line string) { t.Log(line) },
	})
	if err == nil || !strings.Contains(err.Error(), "interrupted") {
		t.Errorf("error %v, want one that says it was interrupted", err)
	}
	nothingLeft(t, tmp)
}

// nothingLeft looks for files, and for processes whose command names the folder.
func nothingLeft(t *testing.T, tmp string) {
	t.Helper()
	left, err := filepath.Glob(filepath.Join(tmp, "weir-compare-*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	commands, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range commands {
		// A process may end while it is looked at.
		if command, err := os.ReadFile(path); err == nil && bytes.Contains(command, []byte(tmp)) {
			t.Errorf("still runs: %q", command)
		}
	}
	groups, err := filepath.Glob("/sys/fs/cgroup/cpu/weir-quota-*")
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range groups {
		if strings.HasSuffix(dir, "-"+strconv.Itoa(os.Getpid())) {
			t.Errorf("the control group %s is left", dir)
		}
	}
}
