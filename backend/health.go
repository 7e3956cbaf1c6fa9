package backend

import (
	"encoding/json"
	"time"

	"github.com/valyala/fasthttp"
)

// loadPatience is how long models may load before /health/live fails: then a restart may help.
const loadPatience = 300 * time.Second

// The answers of the health endpoints have the names of the deployment guide's.

type healthAnswer struct {
	Status    string  `json:"status"`
	Timestamp float64 `json:"timestamp"`
	Uptime    float64 `json:"uptime_seconds"`
}

type liveAnswer struct {
	Alive       bool    `json:"alive"`
	Reason      string  `json:"reason,omitempty"`
	Uptime      float64 `json:"uptime_seconds"`
	ModelLoaded bool    `json:"model_loaded"`
}

type startupAnswer struct {
	Started     bool    `json:"started"`
	ModelLoaded bool    `json:"model_loaded"`
	Uptime      float64 `json:"uptime"`
}

type readyAnswer struct {
	Ready bool `json:"ready"`
	// Reason says why it is not.
	Reason    string      `json:"reason,omitempty"`
	Checks    readyChecks `json:"checks"`
	Timestamp float64     `json:"timestamp"`
}

type readyChecks struct {
	Model     modelCheck    `json:"model"`
	Resources resourceCheck `json:"resources"`
	GPU       gpuCheck      `json:"gpu"`
}

type modelCheck struct {
	Loaded bool `json:"loaded"`
	// SinceLastPrediction is in seconds, null before the first.
	SinceLastPrediction *float64      `json:"time_since_last_prediction"`
	Models              []servedModel `json:"models"`
}

type servedModel struct {
	Name    string `json:"name"`
	Version string `json:"version"`
}

type resourceCheck struct {
	CPU    percentCheck `json:"cpu"`
	Memory memoryCheck  `json:"memory"`
	Disk   diskCheck    `json:"disk"`
	// Gate says whether these checks decide readiness.
	Gate bool `json:"gate"`
}

// percentCheck is healthy below resourceLimit, and while unknown.
type percentCheck struct {
	Percent *float64 `json:"percent"`
	Healthy bool     `json:"healthy"`
}

type memoryCheck struct {
	percentCheck
	AvailableMB float64 `json:"available_mb"`
}

type diskCheck struct {
	percentCheck
	FreeGB float64 `json:"free_gb"`
}

type gpuCheck struct {
	Available       bool     `json:"available"`
	Devices         int      `json:"device_count,omitempty"`
	MemoryAllocated *float64 `json:"memory_allocated_mb,omitempty"`
	MemoryTotal     *float64 `json:"memory_total_mb,omitempty"`
	Healthy         *bool    `json:"healthy,omitempty"`
	Error           string   `json:"error,omitempty"`
}

func (s *Server) uptime() float64 { return s.options.Now().Sub(s.started).Seconds() }

func (s *Server) timestamp() float64 { return float64(s.options.Now().UnixMicro()) / 1e6 }

func (s *Server) health(ctx *fasthttp.RequestCtx) {
	answer(ctx, fasthttp.StatusOK, healthAnswer{"healthy", s.timestamp(), s.uptime()})
}

func (s *Server) live(ctx *fasthttp.RequestCtx) {
	a := liveAnswer{Alive: true, Uptime: s.uptime(), ModelLoaded: s.repository.Load() != nil}
	if !a.ModelLoaded && s.options.Now().Sub(s.started) > loadPatience {
		a.Alive, a.Reason = false, "Model failed to load"
	}
	answerIf(ctx, a.Alive, a)
}

func (s *Server) startup(ctx *fasthttp.RequestCtx) {
	loaded := s.repository.Load() != nil
	answerIf(ctx, loaded, startupAnswer{loaded, loaded, s.uptime()})
}

func (s *Server) ready(ctx *fasthttp.RequestCtx) {
	a := s.readiness()
	answerIf(ctx, a.Ready, a)
}

// readiness decides whether requests should come here: the models are loaded, no GPU is at
// fault, the server is not stopping and, with the resource gate, no resource is short.
func (s *Server) readiness() readyAnswer {
	a := readyAnswer{Timestamp: s.timestamp()}
	a.Checks.Model = s.checkModel()
	a.Checks.GPU = s.checkGPU()
	a.Checks.Resources = s.checkResources()
	r := &a.Checks.Resources
	switch {
	case s.draining.Load():
		a.Reason = "the server is stopping"
	case !a.Checks.Model.Loaded && s.repository.Load() != nil:
		a.Reason = "no model is loaded"
	case !a.Checks.Model.Loaded:
		a.Reason = "the models are being loaded"
	case a.Checks.GPU.Error != "":
		a.Reason = "GPU fault: " + a.Checks.GPU.Error
	case r.Gate && !(r.CPU.Healthy && r.Memory.Healthy && r.Disk.Healthy):
		a.Reason = "a resource is short"
	default:
		a.Ready = true
	}
	return a
}

func (s *Server) checkModel() modelCheck {
	c := modelCheck{Models: []servedModel{}}
	models := s.repository.Load()
	if models == nil {
		return c
	}
	c.Loaded = len(models.models) > 0
	latest := int64(0)
	for _, m := range models.models {
		c.Models = append(c.Models, servedModel{m.Name, m.Version})
		latest = max(latest, m.lastPrediction.Load())
	}
	if latest > 0 {
		since := s.options.Now().Sub(time.Unix(0, latest)).Seconds()
		c.SinceLastPrediction = &since
	}
	return c
}

func (s *Server) checkResources() resourceCheck {
	check := func(p *float64) percentCheck {
		return percentCheck{Percent: p, Healthy: p == nil || *p < resourceLimit}
	}
	use := s.resources.latest()
	return resourceCheck{
		CPU:    check(use.cpu),
		Memory: memoryCheck{check(use.memory), use.availableMB},
		Disk:   diskCheck{check(use.disk), use.freeGB},
		Gate:   s.options.ResourceGate,
	}
}

func (s *Server) checkGPU() gpuCheck {
	devices, fault := s.gpus.latest().devices, s.gpus.fault(s.options.Now())
	if len(devices) == 0 && fault == nil {
		return gpuCheck{}
	}
	var used, total float64
	gpus := 0
	for i := range devices {
		d := &devices[i]
		if d.MIG { // part of its GPU
			continue
		}
		gpus++
		used += float64(d.MemoryUsed) / (1 << 20)
		total += float64(d.MemoryTotal) / (1 << 20)
	}
	healthy := fault == nil
	c := gpuCheck{Available: true, Devices: gpus, MemoryAllocated: &used, MemoryTotal: &total, Healthy: &healthy}
	if fault != nil {
		c.Error = fault.Error()
	}
	return c
}

// answerIf answers 200 when ok and 503 when not.
func answerIf(ctx *fasthttp.RequestCtx, ok bool, v any) {
	status := fasthttp.StatusOK
	if !ok {
		status = fasthttp.StatusServiceUnavailable
	}
	answer(ctx, status, v)
}

// answer answers v as JSON.
func answer(ctx *fasthttp.RequestCtx, status int, v any) {
	body, err := json.Marshal(v)
	if err != nil {
		panic("BUG: an answer does not marshal: " + err.Error())
	}
	ctx.SetStatusCode(status)
	ctx.SetContentType("application/json")
	ctx.Response.SetBodyRaw(body)
}
