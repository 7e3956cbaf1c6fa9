//go:build linux

package proxy

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"weir/config"
)

// exposeVariable has the test binary serve metrics, and nothing else: what that costs is not weir's.
const exposeVariable = "WEIR_TEST_EXPOSE"

// expose serves the metrics of a busy Triton at /triton, and at /weir those of a Go program with the families of
// weir-backend. It prints its port.
func expose() {
	triton := tritonMetrics()
	http.HandleFunc("/triton", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(triton) })
	http.Handle("/weir", promhttp.HandlerFor(backendMetrics(), promhttp.HandlerOpts{}))
	ln, err := net.Listen("tcp", "0.0.0.0:0")
	if err != nil {
		panic(err)
	}
	fmt.Println(ln.Addr().(*net.TCPAddr).Port)
	_ = http.Serve(ln, nil)
}

// tritonMetrics are those of twelve models on two GPUs.
func tritonMetrics() []byte {
	var b strings.Builder
	family := func(name, kind string, lines ...string) {
		fmt.Fprintf(&b, "# HELP %s A line of help as Triton has them, which says what is counted here\n# TYPE %s %s\n", name, name, kind)
		for _, l := range lines {
			fmt.Fprintf(&b, "%s%s\n", name, l)
		}
	}
	var models, gpus []string
	for i := range 12 {
		models = append(models, fmt.Sprintf(`{model="classifier_%d",version="1"} %d`, i, 123456*i))
	}
	for i := range 2 {
		gpus = append(gpus, fmt.Sprintf(`{gpu_uuid="GPU-1b1d9e1c-6a0f-bd8d-7a1b-1f8ca2a1a3f%d"} 0.%d`, i, 5+i))
	}
	for _, name := range []string{
		"nv_inference_request_success", "nv_inference_request_failure", "nv_inference_count", "nv_inference_exec_count", "nv_inference_request_duration_us",
		"nv_inference_queue_duration_us", "nv_inference_compute_input_duration_us", "nv_inference_compute_infer_duration_us", "nv_inference_compute_output_duration_us",
		"nv_cache_num_hits_per_model", "nv_cache_num_misses_per_model", "nv_cache_hit_duration_per_model", "nv_cache_miss_duration_per_model",
	} {
		family(name, "counter", models...)
	}
	family("nv_inference_pending_request_count", "gauge", models...)
	for _, name := range []string{"nv_gpu_utilization", "nv_gpu_memory_total_bytes", "nv_gpu_memory_used_bytes", "nv_gpu_power_usage", "nv_gpu_power_limit", "nv_energy_consumption"} {
		family(name, "gauge", gpus...)
	}
	return []byte(b.String())
}

// backendMetrics has what weir-backend registers, for two models.
func backendMetrics() *prometheus.Registry {
	r := prometheus.NewRegistry()
	labels := []string{"model", "model_version"}
	active := prometheus.NewGauge(prometheus.GaugeOpts{Name: "ml_active_requests", Help: "h"})
	predictions := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "ml_predictions_total", Help: "h"}, []string{"model_version", "status", "model_type"})
	r.MustRegister(active, predictions, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	for _, version := range []string{"v1", "v2"} {
		predictions.WithLabelValues(version, "success", "classifier").Add(1e6)
		predictions.WithLabelValues(version, "error", "classifier").Add(10)
	}
	for _, name := range []string{"ml_queue_seconds", "ml_run_seconds", "ml_batch_rows", "ml_prediction_latency_seconds", "ml_prediction_distribution"} {
		h := prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: name, Help: "h", Buckets: prometheus.ExponentialBuckets(.0001, 2, 16)}, labels)
		r.MustRegister(h)
		for _, version := range []string{"v1", "v2"} {
			h.WithLabelValues("fashion", version).Observe(.01)
		}
	}
	return r
}

// BenchmarkScraping is what it costs to read the metrics of 200 endpoints each second: the processor time of a proxy
// that does nothing else, in percent of a core. Run it for long enough, and on a machine that is idle:
//
//	go test ./proxy -run - -bench Scraping -benchtime 20x
func BenchmarkScraping(b *testing.B) {
	port := exposed(b)
	var endpoints []string
	for i := range 200 {
		endpoints = append(endpoints, fmt.Sprintf("%q", fmt.Sprintf("127.0.1.%d:%s", 1+i, port)))
	}
	for _, preset := range []string{"none", "triton", "weir"} {
		b.Run(preset, func(b *testing.B) {
			cfg, err := config.Parse("weir.yaml", fmt.Appendf(nil, "listeners: [{address: \"127.0.0.1:0\"}]\npools: {blue: {probe: off, endpoints: [%s]}}\nroutes: [{name: a, split: {blue: 1}}]\n", strings.Join(endpoints, ", ")))
			if err != nil {
				b.Fatal(err)
			}
			if preset != "none" {
				s := config.DefaultSignals()
				s.Preset, s.Scrape = preset, "/"+preset
				cfg.Pools[0].Load = &s
			}
			p := New(Options{})
			if _, _, err := p.Apply(cfg); err != nil {
				b.Fatal(err)
			}
			ctx, cancel := context.WithCancel(context.Background())
			served := make(chan error)
			go func() { served <- p.Serve(ctx) }()
			time.Sleep(2 * time.Second) // the first scrape of each opens its connection
			began, used := time.Now(), processorTime(b)
			for b.Loop() {
				time.Sleep(time.Second)
			}
			b.ReportMetric(100*(processorTime(b)-used).Seconds()/time.Since(began).Seconds(), "%core")
			known := 0
			for _, e := range p.Status().Pools[0].Endpoints {
				if e.Load != nil && len(e.Load.Signals) > 0 {
					known++
				}
			}
			b.ReportMetric(float64(known), "endpoints")
			cancel()
			<-served
		})
	}
}

func exposed(b *testing.B) (port string) {
	c := exec.Command(os.Args[0])
	c.Env = append(os.Environ(), exposeVariable+"=1")
	out, err := c.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := c.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = c.Process.Kill(); _ = c.Wait() })
	port, err = bufio.NewReader(out).ReadString('\n')
	if err != nil {
		b.Fatal(err)
	}
	return strings.TrimSpace(port)
}

func processorTime(tb testing.TB) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		tb.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
