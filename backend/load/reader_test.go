package load

import (
	"errors"
	"io"
	"math"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"
)

// figures are what a report holds, by signal.
func figures(r *Report) map[string]float64 {
	m := map[string]float64{}
	for _, n := range r.Named {
		m[n.Name] = n.Value
	}
	for name, v := range map[string]float64{signalUtilization: r.ApplicationUtilization, signalRate: r.RPS, signalErrors: r.EPS} {
		if v != 0 {
			m[name] = v
		}
	}
	return m
}

func same(got, want map[string]float64) bool {
	if len(got) != len(want) {
		return false
	}
	for name, v := range want {
		if g, ok := got[name]; !ok || math.Abs(g-v) > 1e-9*(1+math.Abs(v)) {
			return false
		}
	}
	return true
}

func sample(t testing.TB, preset string) string {
	t.Helper()
	b, err := os.ReadFile("testdata/" + preset + ".prom")
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func read(t testing.TB, r *Reader, text string, now time.Time) Reading {
	t.Helper()
	got, err := r.Read(strings.NewReader(text), make([]byte, 32<<10), 1<<20, now)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// TestPresets reads what each kind of server exposes, and again two seconds later.
func TestPresets(t *testing.T) {
	for _, c := range []struct {
		preset string
		first  map[string]float64
		later  []string // pairs: what has become of what
		second map[string]float64
	}{
		{
			"triton", map[string]float64{"queue": 4, "gpu_utilization": 0.8, "memory_utilization": 0.75},
			[]string{
				`nv_inference_request_success{model="resnet50",version="1"} 1000`, `nv_inference_request_success{model="resnet50",version="1"} 1100`,
				`reason="BACKEND",version="1"} 10`, `reason="BACKEND",version="1"} 14`,
				`nv_inference_queue_duration_us{model="resnet50",version="1"} 2000000`, `nv_inference_queue_duration_us{model="resnet50",version="1"} 2500000`,
			},
			map[string]float64{"queue": 4, "gpu_utilization": 0.8, "memory_utilization": 0.75, "rps": 52, "eps": 2, "queue_ms": 5},
		},
		{
			"vllm", map[string]float64{"queue": 4, "in_flight": 8, "memory_utilization": 0.4},
			[]string{"Instruct\"} 20.0", "Instruct\"} 26.0", "Instruct\"} 6.0", "Instruct\"} 9.0", "queue_time_seconds_count{engine=\"0\",model_name=\"meta-llama/Llama-3.1-8B-Instruct\"} 120.0", "queue_time_seconds_count{engine=\"0\",model_name=\"meta-llama/Llama-3.1-8B-Instruct\"} 126.0"},
			map[string]float64{"queue": 4, "in_flight": 8, "memory_utilization": 0.4, "rps": 3, "queue_ms": 500},
		},
		{
			"sglang", map[string]float64{"queue": 26, "in_flight": 161, "memory_utilization": 0.28},
			[]string{"} 50.0", "} 60.0"},
			map[string]float64{"queue": 26, "in_flight": 161, "memory_utilization": 0.28, "rps": 5},
		},
		{
			"torchserve", map[string]float64{"gpu_utilization": 0.4, "memory_utilization": 0.95},
			[]string{"} 10.0", "} 20.0", "} 1000.0", "} 51000.0", "} 2.0", "} 4.0"},
			map[string]float64{"gpu_utilization": 0.4, "memory_utilization": 0.95, "queue_ms": 5, "rps": 5, "eps": 1},
		},
		{
			"mlserver", map[string]float64{"in_flight": 5},
			[]string{"} 13.0", "} 22.0", "} 1.0", "} 2.0", "batch_request_queue_sum{model_name=\"iris\",model_version=\"None\"} 40.0", "batch_request_queue_sum{model_name=\"iris\",model_version=\"None\"} 60.0", "batch_request_queue_count{model_name=\"iris\",model_version=\"None\"} 10.0", "batch_request_queue_count{model_name=\"iris\",model_version=\"None\"} 20.0"},
			map[string]float64{"in_flight": 5, "rps": 5, "eps": 0.5, "queue": 2},
		},
		{
			"ray", map[string]float64{"queue": 2, "in_flight": 7},
			[]string{"} 100.0", "} 140.0", "} 5.0", "} 6.0"},
			map[string]float64{"queue": 2, "in_flight": 7, "rps": 20, "eps": 0.5},
		},
		{
			"bentoml", map[string]float64{"in_flight": 6},
			[]string{"} 100.0", "} 110.0", "} 3.0", "} 5.0", "} 50.0", "} 58.0"},
			map[string]float64{"in_flight": 6, "rps": 10, "eps": 1},
		},
		{
			"tf-serving", nil,
			[]string{"\"OK\"} 100", "\"OK\"} 190", "} 4\n", "} 14\n", "_sum{} 400000", "_sum{} 900000", "_count{} 100", "_count{} 200"},
			map[string]float64{"rps": 50, "eps": 5, "queue_ms": 5},
		},
		{
			"dcgm", map[string]float64{"gpu_utilization": 0.72, "memory_utilization": 0.75},
			[]string{"} 18000", "} 24000", "} 6000", "} 0"},
			map[string]float64{"gpu_utilization": 0.72, "memory_utilization": 1},
		},
	} {
		t.Run(c.preset, func(t *testing.T) {
			r, now, text := NewReader(c.preset, nil), time.Now(), sample(t, c.preset)
			if got := figures(read(t, r, text, now).Report); !same(got, c.first) {
				t.Errorf("first: %v, want %v", got, c.first)
			}
			for i := 0; i < len(c.later); i += 2 {
				if !strings.Contains(text, c.later[i]) {
					t.Fatalf("the sample has no %q", c.later[i])
				}
			}
			text = strings.NewReplacer(c.later...).Replace(text)
			got := read(t, r, text, now.Add(2*time.Second))
			if f := figures(got.Report); !same(f, c.second) {
				t.Errorf("second: %v, want %v", f, c.second)
			}
			if got.Events != nil || got.Standing != nil {
				t.Errorf("faults: %v, %v", got.Events, got.Standing)
			}
			// And as OpenMetrics has it, which ends in a comment, and with CRLF, byte by byte.
			r = NewReader(c.preset, nil)
			slow := iotest.OneByteReader(strings.NewReader(strings.ReplaceAll(text, "\n", "\r\n") + "# EOF\n"))
			if _, err := r.Read(slow, make([]byte, 32<<10), 1<<20, now); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestReaderRestarts: counters that begin anew, or whose server was not asked for a while, never become rates that were not.
func TestReaderRestarts(t *testing.T) {
	r, now := NewReader("sglang", nil), time.Now()
	for i, c := range []struct {
		after time.Duration
		text  string
		want  float64 // 0: none
	}{
		{0, "sglang:num_requests_total 1000\n", 0},
		{time.Second, "sglang:num_requests_total 1100\n", 100},
		{time.Second, "sglang:num_requests_total 3\n", 0},
		{2 * time.Second, "sglang:num_requests_total 103\n", 50},
		{time.Second, "sglang:num_running_reqs 1\n", 0},              // it is gone
		{time.Second, "sglang:num_requests_total{m=\"b\"} 10\n", 10}, // and begins
		{time.Second, "sglang:num_requests_total{m=\"a\"} 5 1700000000000\nsglang:num_requests_total{m=\"b\"} 20 # {trace_id=\"x\"} 1.0\n", 15},
		{10 * time.Second, "sglang:num_requests_total{m=\"a\"} 5\nsglang:num_requests_total{m=\"b\"} 120\n", 10},
	} {
		now = now.Add(c.after)
		if got := read(t, r, c.text, now).Report.RPS; got != c.want {
			t.Errorf("step %d: %v a second, want %v", i, got, c.want)
		}
	}
}

// TestReaderNames: families of one's own are read by their type and the end of their name.
func TestReaderNames(t *testing.T) {
	r := NewReader("vllm", map[string]string{
		"queue": "depth", "rps": "requests", "eps": "failures_total", "queue_ms": "wait_seconds", "utilization": "busy_percent", "in_flight_limit": "slots",
	})
	now := time.Now()
	const before = `vllm:num_requests_waiting 9
vllm:num_requests_running 2
# HELP requests All of them.
# TYPE requests counter
requests 10
failures_total 1
# TYPE wait_seconds summary
wait_seconds{quantile="0.5"} 7
wait_seconds_sum 10
wait_seconds_count 10
busy_percent{core="0"} 20
depth 4
slots 32
`
	want := map[string]float64{"queue": 4, "utilization": 0.2, "in_flight": 2, "in_flight_limit": 32}
	if got := figures(read(t, r, before, now).Report); !same(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	later := strings.NewReplacer("requests 10", "requests 30", "_total 1", "_total 3", "_sum 10", "_sum 12", "_count 10", "_count 20").Replace(before)
	want["rps"], want["eps"], want["queue_ms"] = 10, 1, 200
	if got := figures(read(t, r, later, now.Add(2*time.Second)).Report); !same(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

func TestReaderRefuses(t *testing.T) {
	f := func(from io.Reader, limit int64, want string) {
		t.Helper()
		r := NewReader("triton", nil)
		if got, err := r.Read(from, make([]byte, 32<<10), limit, time.Now()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v, %v; want %q", got, err, want)
		}
	}
	f(strings.NewReader(sample(t, "triton")), 1000, "max_bytes")
	f(strings.NewReader(sample(t, "vllm")), 1<<20, "none of the families of preset triton is there (nv_inference_pending_request_count, ")
	f(strings.NewReader("<html>not found</html>"), 1<<20, "none of the families")
	f(strings.NewReader(""), 1<<20, "none of the families")
	f(strings.NewReader("nv_gpu_utilization NaN\nnv_gpu_utilization{gpu=\"0} 1\nnv_gpu_utilization high\n"), 1<<20, "none of the families")
	f(io.MultiReader(strings.NewReader(sample(t, "triton")), iotest.ErrReader(errors.New("gone"))), 1<<20, "gone")
	if NewReader("unknown", nil) != nil {
		t.Error("a reader of an unknown preset")
	}
}

// TestReaderLongLines: a line that does not fit is passed over, and nothing of it is taken for another.
func TestReaderLongLines(t *testing.T) {
	long := `sglang:num_queue_reqs{x="` + strings.Repeat("sglang:num_queue_reqs 7 ", 5000) + "\"} 5\n"
	for _, text := range []string{long + "sglang:num_running_reqs 3\n", "sglang:num_running_reqs 3\n" + long, "sglang:num_running_reqs 3\n" + strings.TrimSuffix(long, "\n")} {
		if got := figures(read(t, NewReader("sglang", nil), text, time.Now()).Report); !same(got, map[string]float64{"in_flight": 3}) {
			t.Errorf("%v", got)
		}
	}
}

// TestReaderFaults: what comes up is told once, what stands is told as long as it does, and what is older than the reader
// or of an application's making is not.
func TestReaderFaults(t *testing.T) {
	r, now, text := NewReader("dcgm", nil), time.Now(), sample(t, "dcgm")
	step := func(what string, change []string, events, standing []string) {
		t.Helper()
		text = strings.NewReplacer(change...).Replace(text)
		now = now.Add(time.Second)
		if got := read(t, r, text, now); !slices.Equal(got.Events, events) || !slices.Equal(got.Standing, standing) {
			t.Errorf("%s: events %q, standing %q; want %q, %q", what, got.Events, got.Standing, events, standing)
		}
	}
	step("at first", nil, nil, nil)
	step("the same", nil, nil, nil)
	step("another XID, which comes with other labels", []string{`err_code="48",err_msg="Double Bit ECC Error"} 48`, `err_code="79",err_msg="GPU has fallen off the bus"} 79`}, []string{"GPU 0: XID 79"}, nil)
	step("still", nil, nil, nil)
	step("an application's", []string{"} 79", "} 31"}, nil, nil)
	step("of a GPU that had none", []string{"# HELP DCGM_FI_DEV_ECC", `DCGM_FI_DEV_XID_ERRORS{gpu="1"} 119` + "\n# HELP DCGM_FI_DEV_ECC"}, []string{"GPU 1: XID 119"}, nil)
	step("ECC", []string{`_TOTAL{gpu="0",UUID="GPU-a8394b51"} 1`, `_TOTAL{gpu="0",UUID="GPU-a8394b51"} 3`}, []string{"GPU 0: 2 uncorrected memory (ECC) errors"}, nil)
	step("a reset of the count", []string{`_TOTAL{gpu="0",UUID="GPU-a8394b51"} 3`, `_TOTAL{gpu="0",UUID="GPU-a8394b51"} 0`}, nil, nil)
	step("rows", []string{`FAILURE{gpu="0",UUID="GPU-a8394b51"} 0`, `FAILURE{gpu="0",UUID="GPU-a8394b51"} 1`}, nil, []string{"GPU 0: a row of memory that could not be remapped"})
	step("still", nil, nil, []string{"GPU 0: a row of memory that could not be remapped"})
}

// TestReaderFaultsOfWeirBackend: as the server of this repository tells of them.
func TestReaderFaultsOfWeirBackend(t *testing.T) {
	r, now := NewReader("weir", nil), time.Now()
	for _, c := range []struct {
		page             string
		events, standing []string
	}{
		{"ml_gpu_xid_errors_total{device_id=\"1\",xid=\"79\"} 1\nml_gpu_fault 0\nml_gpu_ecc_uncorrected_errors{device_id=\"0\"} 3\n", nil, nil},
		{"ml_gpu_xid_errors_total{device_id=\"1\",xid=\"79\"} 1\nml_gpu_xid_errors_total{device_id=\"1\",xid=\"31\"} 5\nml_gpu_fault 0\nml_gpu_ecc_uncorrected_errors{device_id=\"0\"} 3\n", nil, nil},
		{"ml_gpu_xid_errors_total{device_id=\"1\",xid=\"79\"} 2\nml_gpu_xid_errors_total{device_id=\"0\",xid=\"48\"} 1\n", []string{"GPU 1: XID 79", "GPU 0: XID 48"}, nil},
		{"ml_gpu_fault 1\nml_gpu_ecc_uncorrected_errors{device_id=\"0\"} 4\n", []string{"GPU 0: 1 uncorrected memory (ECC) errors"}, []string{"a GPU: a fault, of which the server's readiness tells more"}},
	} {
		now = now.Add(time.Second)
		if got := read(t, r, "ml_active_requests 0\n"+c.page, now); !slices.Equal(got.Events, c.events) || !slices.Equal(got.Standing, c.standing) {
			t.Errorf("%q: events %q, standing %q", c.page, got.Events, got.Standing)
		}
	}
}
