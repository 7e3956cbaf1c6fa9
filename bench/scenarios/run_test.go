// Whole programs are run here, as they are built, without the race detector: under it the same would be seen once more.

//go:build !race

package scenarios

import (
	"bytes"
	"context"
	"math"
	"os"
	"os/exec"
	"path/filepath"
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

func chosen(t *testing.T, scenarios, policies []string) ([]Scenario, []Policy) {
	t.Helper()
	s, err := Find(scenarios)
	if err != nil {
		t.Fatal(err)
	}
	p, err := FindPolicies(policies)
	if err != nil {
		t.Fatal(err)
	}
	return s, p
}

// Every scenario as make bench-scenarios does it, only much shorter, with real processes.
func TestRun(t *testing.T) {
	dir, tmp := programs(t), t.TempDir()
	t.Setenv("TMPDIR", tmp)
	for _, tt := range []struct{ scenarios, policies []string }{
		{[]string{"slow"}, []string{Nginx, HAProxy, HAProxyRandom2, Weir, "weir-peak_ewma"}},
		{[]string{"noisy", "batch", "failing", "gpu"}, []string{Weir}},
	} {
		o := Options{
			Programs: dir, Rounds: 1, Warmup: 100 * ms, Duration: 700 * ms,
			Say: func(line string) { t.Log(line) },
		}
		o.Scenarios, o.Policies = chosen(t, tt.scenarios, tt.policies)
		result, err := Run(context.Background(), o)
		if err != nil {
			t.Fatal(err)
		}
		checkResult(t, result, &o)
	}
	if left, err := filepath.Glob(filepath.Join(tmp, "*")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	commands, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range commands {
		// A process may end while it is looked at.
		if command, err := os.ReadFile(path); err == nil && bytes.Contains(command, []byte(dir)) {
			t.Errorf("still runs: %q", command)
		}
	}
}

// checkResult sees to it that figures are there and agree with each other.
func checkResult(t *testing.T, r *Result, o *Options) {
	t.Helper()
	if n := len(o.Scenarios) * len(o.Policies); len(r.Measurements) != n*o.Rounds || len(r.Summary) != n || len(r.Scenarios) != len(o.Scenarios) {
		t.Fatalf("%d measurements, %d in the summary", len(r.Measurements), len(r.Summary))
	}
	for _, m := range r.Measurements {
		served := uint64(0)
		for _, n := range m.Served {
			served += n
		}
		if well := m.Requests - m.Errors; m.Requests == 0 || well == 0 || served < well || len(m.Served) != 4 {
			t.Errorf("%+v: want requests, answers, and no more of them than pods took", m)
		}
		if m.P50 <= 0 || m.P50 > m.P99 || m.P99 > m.P999 {
			t.Errorf("%+v: want quantiles that grow", m)
		}
	}
	for i, s := range r.Summary {
		if m := r.Measurements[i]; s.Requests != m.Requests || s.P99 != m.P99 || s.Share < 0 || s.Share > 1 {
			t.Errorf("the summary %+v of one measurement %+v", s, m)
		}
		if s.Policy == Nginx && (s.ToNginx == nil || s.ToNginx.Median != 1 || s.ToHAProxy == nil) {
			t.Errorf("nginx is %v of itself, %v of HAProxy", s.ToNginx, s.ToHAProxy)
		}
	}
	for _, format := range Formats() {
		var b bytes.Buffer
		if err := r.Write(&b, format); err != nil {
			t.Error(err)
		}
		for _, s := range r.Summary {
			if !strings.Contains(b.String(), s.Title) {
				t.Errorf("%s without %s:\n%s", format, s.Title, b.String())
			}
		}
	}
}

// However a comparison ends, nothing of it is left.
func TestInterrupted(t *testing.T) {
	o := Options{Programs: programs(t), Rounds: 1, Duration: time.Hour, Say: func(string) {}}
	tmp := t.TempDir()
	t.Setenv("TMPDIR", tmp)
	o.Scenarios, o.Policies = chosen(t, []string{"slow"}, []string{Weir})
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		for ctx.Err() == nil {
			if found, _ := filepath.Glob(filepath.Join(tmp, "weir-scenarios-*", "slow", Weir, "weir.yaml")); len(found) > 0 {
				break
			}
			time.Sleep(ms)
		}
		time.Sleep(200 * ms)
		cancel()
	}()
	defer cancel()
	if _, err := Run(ctx, o); err == nil || !strings.Contains(err.Error(), "interrupted") {
		t.Errorf("error %v, want one that says it was interrupted", err)
	}
	if left, err := filepath.Glob(filepath.Join(tmp, "*")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// capacity is how many requests a second the pod can serve outside of slow phases.
func (m *Model) capacity() float64 {
	n := float64(max(m.Batch, 1))
	return float64(m.Servers) * n / (m.Service.Seconds() * (1 + m.Each*(n-1)))
}

// Where a rate is said to be 70 % of what the pods can serve, it is.
func TestRates(t *testing.T) {
	for _, s := range Scenarios() {
		capacity := 0.0
		for _, m := range s.Pods {
			capacity += m.capacity()
		}
		load := s.Rate / capacity
		if said := strings.Contains(s.Detail, "70 %"); load >= 0.8 || said && math.Abs(load-0.7) > 0.01 {
			t.Errorf("%s: %.3f of the capacity of %.0f/s; it says %q", s.Name, load, capacity, s.Detail)
		}
	}
}

func TestRatiosAreWithinARound(t *testing.T) {
	measured := []Measurement{
		{Policy: Nginx, Round: 1, P99: 100}, {Policy: HAProxy, Round: 1, P99: 80}, {Policy: HAProxyRandom2, Round: 1, P99: 40}, {Policy: Weir, Round: 1, P99: 20, Served: []uint64{6, 2}},
		{Policy: Nginx, Round: 2, P99: 200}, {Policy: HAProxy, Round: 2, P99: 50}, {Policy: HAProxyRandom2, Round: 2, P99: 90}, {Policy: Weir, Round: 2, P99: 50, Served: []uint64{4, 0}},
		{Policy: Weir, Round: 3, P99: 1},
	}
	if got := ratios(measured, Weir, Nginx).String(); got != "0.23 (0.20–0.25)" {
		t.Errorf("to nginx: %s", got)
	}
	if got := ratios(measured, Weir, HAProxy, HAProxyRandom2).String(); got != "0.75 (0.50–1.00)" {
		t.Errorf("to HAProxy's better: %s", got)
	}
	if got := ratios(measured, Weir, "weir-random"); got != nil {
		t.Errorf("to what was not measured: %v", got)
	}
	if got := lastShare(measured, Weir); math.Abs(got-2.0/12) > 1e-9 {
		t.Errorf("share of the last pod %v, want a sixth", got)
	}
}

func TestRefused(t *testing.T) {
	if s, err := Find([]string{"slow", "fast"}); err == nil || !strings.Contains(err.Error(), "must be one of slow, noisy") {
		t.Errorf("%v, %v", s, err)
	}
	if p, err := FindPolicies([]string{"apache"}); err == nil || !strings.Contains(err.Error(), "must be one of nginx, haproxy") {
		t.Errorf("%v, %v", p, err)
	}
	good := Options{Scenarios: Scenarios(), Policies: Policies(), Rounds: 1, Duration: time.Second}
	for want, change := range map[string]func(*Options){
		"at least one round":    func(o *Options) { o.Rounds = 0 },
		"positive duration":     func(o *Options) { o.Duration = 0 },
		"at least one scenario": func(o *Options) { o.Scenarios = nil },
		"one policy":            func(o *Options) { o.Policies = nil },
	} {
		o := good
		change(&o)
		if _, err := Run(context.Background(), o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want one with %q", err, want)
		}
	}
}
