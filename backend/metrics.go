package backend

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
)

// metrics are the ml_* families, under the names, labels and buckets of the deployment guide.
type metrics struct {
	registry     *prometheus.Registry
	predictions  *prometheus.CounterVec
	latency      *prometheus.HistogramVec
	score        *prometheus.SummaryVec
	distribution *prometheus.HistogramVec
	errors       *prometheus.CounterVec
	features     *featureStatistics
	queueTime    *prometheus.HistogramVec
	runTime      *prometheus.HistogramVec
	batchSize    *prometheus.HistogramVec
	spoiled      *prometheus.CounterVec
	loads        *prometheus.CounterVec
}

func newMetrics() *metrics {
	const version = "model_version"
	m := &metrics{
		registry: prometheus.NewRegistry(),
		predictions: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "ml_predictions_total",
			Help: "Prediction requests that the model answered (success) or failed on (error); a request may hold a batch.",
		}, []string{version, "status", "model_type"}),
		latency: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "ml_prediction_latency_seconds",
			Help:    "Time from the whole request received to its answer ready, of successful predictions.",
			Buckets: []float64{.01, .05, .1, .5, 1, 2, 5, 10},
		}, []string{version}),
		score: prometheus.NewSummaryVec(prometheus.SummaryOpts{
			Name: "ml_prediction_score",
			Help: "Confidence of predictions: the likeliest class's probability, or what a regressor says.",
		}, []string{version}),
		distribution: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "ml_prediction_distribution",
			Help:    "Distribution of ml_prediction_score.",
			Buckets: []float64{0, .1, .2, .3, .4, .5, .6, .7, .8, .9, 1},
		}, []string{version}),
		errors: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "ml_errors_total",
			Help: "Prediction requests without an answer, by what was wrong; model_version is empty when none was chosen.",
		}, []string{"error_type", version}),
		features: newFeatureStatistics(),
	}
	m.addRuns()
	m.registry.MustRegister(m.predictions, m.latency, m.score, m.distribution, m.errors, m.features,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// addRuns adds what is measured of the queue and the runs. Models run for microseconds and for seconds.
func (m *metrics) addRuns() {
	labels := []string{"model", "model_version"}
	times := []float64{.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10}
	m.queueTime = prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "ml_queue_seconds", Help: "Time that requests waited for their run, of those that ran.", Buckets: times,
	}, labels)
	m.runTime = prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "ml_run_seconds", Help: "Time of one run of the model, for a request or a batch of them.", Buckets: times,
	}, labels)
	m.batchSize = prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "ml_batch_rows", Help: "Rows in one run of the model; 1 where requests are not batched.",
		Buckets: []float64{1, 2, 4, 8, 16, 32, 64, 128, 256},
	}, labels)
	m.spoiled = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "ml_batch_fallbacks_total", Help: "Batches whose run failed, so that each of their requests was run alone.",
	}, labels)
	m.loads = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "ml_model_loads_total", Help: "Times that versions of a model were to be loaded into the running server, by result: success, or failure, after which nothing has changed.",
	}, []string{"model", "result"})
	m.registry.MustRegister(m.loads, m.queueTime, m.runTime, m.batchSize, m.spoiled)
}

// modelMetrics are one model's, looked up once so that a request only adds.
type modelMetrics struct {
	success, failure    prometheus.Counter
	latency             prometheus.Observer
	score, distribution prometheus.Observer
	errors              errorCounters
	queueTime, runTime  prometheus.Observer
	batchSize           prometheus.Observer
	spoiled             prometheus.Counter
}

// loaded counts a load into the running server.
func (m *metrics) loaded(model string, ok bool) {
	result := "success"
	if !ok {
		result = "failure"
	}
	m.loads.WithLabelValues(model, result).Inc()
}

// errorCounters counts faults by their kind.
type errorCounters map[faultKind]prometheus.Counter

func (m *metrics) errorsOf(version string) errorCounters {
	counters := make(errorCounters)
	for _, k := range faultKinds() {
		counters[k] = m.errors.WithLabelValues(k.String(), version)
	}
	return counters
}

// count counts the fault; a kind that is not counted has no counter.
func (c errorCounters) count(f *fault) {
	if counter, ok := c[f.kind]; ok {
		counter.Inc()
	}
}

func (m *metrics) of(model *Model) *modelMetrics {
	v, kind := model.Version, string(model.reading.kind)
	return &modelMetrics{
		success:      m.predictions.WithLabelValues(v, "success", kind),
		failure:      m.predictions.WithLabelValues(v, "error", kind),
		latency:      m.latency.WithLabelValues(v),
		score:        m.score.WithLabelValues(v),
		distribution: m.distribution.WithLabelValues(v),
		errors:       m.errorsOf(v),
		queueTime:    m.queueTime.WithLabelValues(model.Name, v),
		runTime:      m.runTime.WithLabelValues(model.Name, v),
		batchSize:    m.batchSize.WithLabelValues(model.Name, v),
		spoiled:      m.spoiled.WithLabelValues(model.Name, v),
	}
}

// state is a collector of what the server knows about itself when asked.
type state struct {
	server *Server

	loaded, info, provider, line, active, queued *prometheus.Desc
	gpu                                          gpuMetrics
	drift                                        driftMetrics
}

func newState(s *Server) *state {
	describe := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc(name, help, labels, nil)
	}
	return &state{
		server: s,
		loaded: describe("ml_model_loaded", "1 once every model of this version is loaded and warm, else 0.", "model_version"),
		info: describe("ml_model_info", "1 for each loaded model, described by its labels.",
			"model", "model_version", "model_type", "platform", "environment"),
		provider: describe("ml_model_execution_provider", "1 for each execution provider that runs a loaded model.",
			"model", "model_version", "execution_provider"),
		line:   describe("ml_queue_depth", "Requests for a model that wait for their run.", "model", "model_version"),
		active: describe("ml_active_requests", "Prediction requests being processed, the queued ones included."),
		queued: describe("ml_queued_requests", "Prediction requests that wait for a worker."),
		gpu:    newGPUMetrics(),
		drift:  newDriftMetrics(),
	}
}

func (c *state) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{c.loaded, c.info, c.provider, c.line, c.active, c.queued} {
		ch <- d
	}
	c.gpu.describe(ch)
	c.drift.describe(ch)
}

func (c *state) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	s := c.server
	models := s.repository.Load()
	if models == nil {
		versions := make(map[string]bool)
		for i := range s.options.Models {
			versions[s.options.Models[i].Version] = true
		}
		for v := range versions {
			gauge(c.loaded, 0, v)
		}
	} else {
		versions := make(map[string]bool)
		for _, m := range models.models {
			gauge(c.info, 1, m.Name, m.Version, string(m.reading.kind), m.signature.Platform, s.options.Environment)
			for _, provider := range m.signature.Providers {
				gauge(c.provider, 1, m.Name, m.Version, provider)
			}
			gauge(c.line, float64(m.line.depth()), m.Name, m.Version)
			versions[m.Version] = true
		}
		for v := range versions {
			gauge(c.loaded, 1, v)
		}
	}
	busy := s.meter.busyNow()
	gauge(c.active, float64(busy.inFlight))
	gauge(c.queued, float64(busy.queued))
	c.gpu.collect(ch, s.gpus, s.options.Now())
	c.drift.collect(ch, s)
}
