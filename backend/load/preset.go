package load

import "strings"

// Signals that metrics tell, by the names of a Report's named metrics and fields.
const (
	signalUtilization = "utilization"
	signalGPU         = "gpu_utilization"
	signalMemory      = "memory_utilization"
	signalQueueTime   = "queue_ms"
	signalQueue       = "queue"
	signalRunning     = "in_flight"
	signalLimit       = "in_flight_limit"
	signalRate        = "rps"
	signalErrors      = "eps"
)

// how is how families become a figure.
type how uint8

const (
	sum   how = iota // of all samples
	most             // the greatest
	rate             // how much the sum grows in a second
	mean             // how much the sum of of grows, divided by how much that of per does
	share            // of, divided by of and per together, series by series; the greatest
	part             // of, divided by per, series by series; the greatest
	auto             // what the family's type says: a counter's rate, a histogram's mean, else the sum

	// Faults of a GPU.
	changed  // to an XID that is not an application's
	counted  // one more of an XID that is not an application's
	grown    // which it should not
	standing // while it is not 0
)

// rule makes one signal, or finds one kind of fault.
type rule struct {
	into  string // the signal, or what the fault is called
	how   how
	of    []string // families; a label's value may be asked for, as in requests{status="error
	per   []string
	scale float64 // 0: 1
}

// An XID that only says that an application has failed is none that speaks against the GPU. The list is that of NVIDIA's
// device plugin for Kubernetes (github.com/NVIDIA/k8s-device-plugin, internal/rm/health.go).
func applicationXID(xid int) bool {
	switch xid {
	case 13, 31, 43, 45, 68, 109:
		return true
	}
	return false
}

func one(into string, h how, scale float64, of ...string) rule {
	return rule{into: into, how: h, of: of, scale: scale}
}

func over(into string, h how, scale float64, of, per string) rule {
	return rule{into: into, how: h, of: []string{of}, per: []string{per}, scale: scale}
}

// presetRules returns the rules of a kind of model server; nil for one that is not known.
func presetRules(preset string) []rule {
	const ms, us, percent = 1000, 0.001, 0.01
	switch preset {
	case "weir": // backend/metrics.go
		return append([]rule{
			one(signalRunning, sum, 1, "ml_active_requests"),
			one(signalQueue, sum, 1, "ml_queued_requests"),
			over(signalQueueTime, mean, ms, "ml_queue_seconds_sum", "ml_queue_seconds_count"),
			one(signalRate, rate, 1, "ml_predictions_total"),
			one(signalErrors, rate, 1, `ml_predictions_total{status="error"`),
			one(signalGPU, most, percent, "ml_gpu_utilization_percent"),
			over(signalMemory, part, 1, "ml_gpu_memory_allocated_bytes", "ml_gpu_memory_total_bytes"),
		}, weirFaults()...)
	case "triton": // github.com/triton-inference-server/server, docs/user_guide/metrics.md
		return []rule{
			one(signalQueue, sum, 1, "nv_inference_pending_request_count"),
			over(signalQueueTime, mean, us, "nv_inference_queue_duration_us", "nv_inference_request_success"),
			one(signalRate, rate, 1, "nv_inference_request_success", "nv_inference_request_failure"),
			one(signalErrors, rate, 1, "nv_inference_request_failure"),
			one(signalGPU, most, 1, "nv_gpu_utilization"),
			over(signalMemory, part, 1, "nv_gpu_memory_used_bytes", "nv_gpu_memory_total_bytes"),
		}
	case "vllm": // docs.vllm.ai, design/metrics
		return []rule{
			one(signalQueue, sum, 1, "vllm:num_requests_waiting"),
			one(signalRunning, sum, 1, "vllm:num_requests_running"),
			one(signalMemory, most, 1, "vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc"),
			over(signalQueueTime, mean, ms, "vllm:request_queue_time_seconds_sum", "vllm:request_queue_time_seconds_count"),
			one(signalRate, rate, 1, "vllm:request_success_total"),
		}
	case "sglang": // github.com/sgl-project/sglang, docs/references/production_metrics.md
		return []rule{
			one(signalQueue, sum, 1, "sglang:num_queue_reqs"),
			one(signalRunning, sum, 1, "sglang:num_running_reqs"),
			one(signalMemory, most, 1, "sglang:token_usage"),
			over(signalQueueTime, mean, ms, "sglang:queue_time_seconds_sum", "sglang:queue_time_seconds_count"),
			one(signalRate, rate, 1, "sglang:num_requests_total"),
		}
	case "torchserve": // pytorch.org/serve/metrics_api.html
		return []rule{
			over(signalQueueTime, mean, us, "ts_queue_latency_microseconds", "ts_inference_requests_total"),
			one(signalRate, rate, 1, "ts_inference_requests_total"),
			one(signalErrors, rate, 1, "Requests5XX"),
			one(signalGPU, most, percent, "GPUUtilization"),
			one(signalMemory, most, percent, "GPUMemoryUtilization"),
		}
	}
	return otherRules(preset)
}

func otherRules(preset string) []rule {
	const us, percent = 0.001, 0.01
	switch preset {
	case "mlserver": // mlserver.readthedocs.io, user-guide/metrics
		return []rule{
			one(signalRunning, sum, 1, "rest_server_requests_in_progress"),
			one(signalQueue, auto, 1, "batch_request_queue", "parallel_request_queue"),
			one(signalRate, rate, 1, "model_infer_request_success_total", "model_infer_request_failure_total", "model_infer_request_success", "model_infer_request_failure"),
			one(signalErrors, rate, 1, "model_infer_request_failure_total", "model_infer_request_failure"),
		}
	case "ray": // docs.ray.io, serve/monitoring
		return []rule{
			one(signalQueue, sum, 1, "ray_serve_deployment_queued_queries", "ray_serve_replica_queued_queries"),
			one(signalRunning, sum, 1, "ray_serve_replica_processing_queries"),
			over(signalQueueTime, mean, 1, "ray_serve_deployment_queuing_latency_ms_sum", "ray_serve_deployment_queuing_latency_ms_count"),
			one(signalRate, rate, 1, "ray_serve_deployment_request_counter_total", "ray_serve_deployment_request_counter"),
			one(signalErrors, rate, 1, "ray_serve_deployment_error_counter_total", "ray_serve_deployment_error_counter"),
		}
	case "bentoml": // docs.bentoml.com, build-with-bentoml/observability/metrics
		return []rule{
			one(signalRunning, sum, 1, "bentoml_service_request_in_progress"),
			one(signalRate, rate, 1, "bentoml_service_request_total"),
			one(signalErrors, rate, 1, `bentoml_service_request_total{http_response_code="5`),
		}
	case "tf-serving": // tensorflow.org/tfx/serving, monitoring over Prometheus
		return []rule{
			one(signalRate, rate, 1, ":tensorflow:serving:request_count"),
			one(signalErrors, rate, 1, `:tensorflow:serving:request_count{!status="OK"`),
			over(signalQueueTime, mean, us, ":tensorflow:serving:batching_session:queuing_latency_sum", ":tensorflow:serving:batching_session:queuing_latency_count"),
		}
	case "dcgm": // github.com/NVIDIA/dcgm-exporter, etc/default-counters.csv
		return []rule{
			one(signalGPU, most, percent, "DCGM_FI_DEV_GPU_UTIL"),
			over(signalMemory, share, 1, "DCGM_FI_DEV_FB_USED", "DCGM_FI_DEV_FB_FREE"),
			one("XID", changed, 1, "DCGM_FI_DEV_XID_ERRORS"),
			one("uncorrected memory (ECC) errors", grown, 1, "DCGM_FI_DEV_ECC_DBE_VOL_TOTAL", "DCGM_FI_DEV_UNCORRECTABLE_REMAPPED_ROWS"),
			one("a row of memory that could not be remapped", standing, 1, "DCGM_FI_DEV_ROW_REMAP_FAILURE"),
		}
	}
	return nil
}

// weirFaults are those of GPUs that weir-backend tells of.
func weirFaults() []rule {
	return []rule{
		one("XID", counted, 1, "ml_gpu_xid_errors_total"),
		one("uncorrected memory (ECC) errors", grown, 1, "ml_gpu_ecc_uncorrected_errors"),
		one("a fault, of which the server's readiness tells more", standing, 1, "ml_gpu_fault"),
	}
}

// ownRule is the rule of a family that somebody has named: how it is read, its type says, and its unit the end of its
// name.
func ownRule(signal, family string) rule {
	scale := 1.0
	base := strings.TrimSuffix(family, "_total")
	switch {
	case signal == signalQueueTime && strings.HasSuffix(base, "_seconds"):
		scale = 1000
	case signal == signalQueueTime && (strings.HasSuffix(base, "_us") || strings.HasSuffix(base, "_microseconds")):
		scale = 0.001
	case strings.HasSuffix(base, "_percent"):
		scale = 0.01
	}
	return one(signal, auto, scale, family)
}
