package backend

import (
	"math"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// gpuMetrics are the ml_gpu_* families. The first two have the names of the deployment guide.
type gpuMetrics struct {
	memory, utilization, memoryTotal, temperature, power, ecc, xid, info, fault *prometheus.Desc
}

func newGPUMetrics() gpuMetrics {
	describe := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("ml_gpu_"+name, help, append([]string{"device_id"}, labels...), nil)
	}
	const ofMIG = " A MIG instance has the device_id GPU:INSTANCE, and what it has is part of the GPU's."
	return gpuMetrics{
		memory:      describe("memory_allocated_bytes", "GPU memory in use, by all processes."+ofMIG),
		memoryTotal: describe("memory_total_bytes", "GPU memory there is."+ofMIG),
		utilization: describe("utilization_percent", "Percentage of time in which the GPU ran a kernel; absent where the driver does not tell, as for a GPU split by MIG. It reaches 100 long before the GPU's throughput does."),
		temperature: describe("temperature_celsius", "Temperature of the GPU."),
		power:       describe("power_watts", "Power that the GPU draws."),
		ecc:         describe("ecc_uncorrected_errors", "Memory errors that ECC could not correct, since the driver was loaded; more than 0 makes the server not ready."),
		xid:         describe("xid_errors_total", "XID errors that the NVIDIA driver reported since this program started, by number; those that are not a program's make the server not ready.", "xid"),
		info:        describe("info", "1 for each GPU and MIG instance, described by its labels.", "name", "uuid"),
		fault:       prometheus.NewDesc("ml_gpu_fault", "1 while a GPU fault makes the server not ready, else 0; absent where there are no GPUs.", nil, nil),
	}
}

func (m *gpuMetrics) describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{m.memory, m.utilization, m.memoryTotal, m.temperature, m.power, m.ecc, m.xid, m.info, m.fault} {
		ch <- d
	}
}

func (m *gpuMetrics) collect(ch chan<- prometheus.Metric, w *gpuWatch, now time.Time) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		if !math.IsNaN(v) { // NaN is "not told"
			ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
		}
	}
	devices, fault := w.latest().devices, w.fault(now)
	for i := range devices {
		d := &devices[i]
		id := d.id()
		gauge(m.memory, float64(d.MemoryUsed), id)
		gauge(m.memoryTotal, float64(d.MemoryTotal), id)
		gauge(m.utilization, d.Utilization, id)
		gauge(m.temperature, d.Temperature, id)
		gauge(m.power, d.Power, id)
		gauge(m.ecc, d.ECCUncorrected, id)
		gauge(m.info, 1, id, d.Name, d.UUID)
		for xid, n := range d.XIDs {
			ch <- prometheus.MustNewConstMetric(m.xid, prometheus.CounterValue, float64(n), id, strconv.Itoa(xid))
		}
	}
	if fault != nil {
		gauge(m.fault, 1)
	} else if len(devices) > 0 {
		gauge(m.fault, 0)
	}
}
