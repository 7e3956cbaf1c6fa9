package backend

import (
	"crypto/sha256"
	"encoding/hex"
	"strconv"

	"github.com/valyala/fasthttp"

	"weir/backend/tensor"
)

// jsonSizeHeader tells how many bytes of a body are JSON when binary tensors follow.
const jsonSizeHeader = "Inference-Header-Content-Length"

// The answers of the Open Inference Protocol V2.

type v2ServerAnswer struct {
	Name       string   `json:"name"`
	Version    string   `json:"version"`
	Extensions []string `json:"extensions"`
}

type v2ModelAnswer struct {
	Name       string            `json:"name"`
	Versions   []string          `json:"versions"`
	Platform   string            `json:"platform"`
	Inputs     []v2Spec          `json:"inputs"`
	Outputs    []v2Spec          `json:"outputs"`
	Properties map[string]string `json:"properties,omitempty"`
}

type v2Spec struct {
	Name     string  `json:"name"`
	Datatype string  `json:"datatype"`
	Shape    []int64 `json:"shape"`
}

type v2LiveAnswer struct {
	Live bool `json:"live"`
}

type v2ReadyAnswer struct {
	Name  string `json:"name,omitempty"`
	Ready bool   `json:"ready"`
}

func (s *Server) v2Live(ctx *fasthttp.RequestCtx) {
	answer(ctx, fasthttp.StatusOK, v2LiveAnswer{true})
}

func (s *Server) v2Ready(ctx *fasthttp.RequestCtx) {
	ready := s.readiness().Ready
	answerIf(ctx, ready, v2ReadyAnswer{Ready: ready})
}

func (s *Server) v2Server(ctx *fasthttp.RequestCtx) {
	answer(ctx, fasthttp.StatusOK, s.describe())
}

func (s *Server) describe() v2ServerAnswer {
	return v2ServerAnswer{"weir-backend", s.options.Build, []string{"binary_tensor_data", "model_repository", "schedule_policy"}}
}

// v2Model answers /v2/models/NAME[/versions/VERSION][/ready|/infer]; parts is what comes after
// /v2/models/.
func (s *Server) v2Model(ctx *fasthttp.RequestCtx, parts []string) *fault {
	name, version, action := parts[0], "", ""
	rest := parts[1:]
	if len(rest) >= 2 && rest[0] == "versions" {
		if version = rest[1]; version == "" {
			return badRequest("the version is empty; want /v2/models/%s/versions/VERSION", clip(name))
		}
		rest = rest[2:]
	}
	if len(rest) == 1 {
		action = rest[0]
	}
	method := fasthttp.MethodGet
	if action == "infer" {
		method = fasthttp.MethodPost
	}
	if f := allow(ctx, method); f != nil {
		return f
	}
	if len(rest) > 1 {
		return unknownPath(string(ctx.URI().PathOriginal()))
	}
	if action == "infer" {
		return s.infer(ctx, name, version)
	}
	models, m, f := s.find(name, version)
	if f != nil {
		return f
	}
	switch {
	case action == "":
		answer(ctx, fasthttp.StatusOK, describe(models, m))
	case action == "ready":
		ready := s.readiness().Ready
		answerIf(ctx, ready, v2ReadyAnswer{m.Name, ready})
	default:
		return unknownPath(string(ctx.URI().PathOriginal()))
	}
	return nil
}

// find is the model of this name and version, once the models are loaded.
func (s *Server) find(name, version string) (models *repository, m *Model, f *fault) {
	if models, f = s.loadedModels(); f == nil {
		m, f = models.find(name, version)
	}
	return models, m, f
}

// hold is the model that find finds among those that are served, which stays open until it is released.
func (s *Server) hold(find func(*repository) (*Model, *fault)) (*Model, *fault) {
	for {
		models, f := s.loadedModels()
		if f != nil {
			return nil, f
		}
		m, f := find(models)
		if f != nil {
			return nil, f
		}
		if m.acquire() {
			return m, nil
		}
		// It has just been replaced, so that there are others now.
	}
}

// holdNamed is the model of this name and version, which stays open until it is released. A model that there is not is
// counted.
func (s *Server) holdNamed(name, version string) (*Model, *fault) {
	m, f := s.hold(func(r *repository) (*Model, *fault) { return r.find(name, version) })
	if f != nil {
		s.unnamed.count(f)
	}
	return m, f
}

func describe(models *repository, m *Model) v2ModelAnswer {
	specs := func(all []tensor.Spec) []v2Spec {
		described := make([]v2Spec, len(all))
		for i, spec := range all {
			described[i] = v2Spec{spec.Name, spec.Type.String(), append([]int64{}, spec.Shape...)}
		}
		return described
	}
	return v2ModelAnswer{
		Name: m.Name, Versions: models.versions(m.Name), Platform: m.signature.Platform,
		Inputs: specs(m.signature.Inputs), Outputs: specs(m.signature.Outputs),
		Properties: m.signature.Metadata,
	}
}

func (s *Server) infer(ctx *fasthttp.RequestCtx, name, version string) *fault {
	m, f := s.holdNamed(name, version)
	if f != nil {
		return f
	}
	defer m.release()
	nameModel(ctx, m)
	return s.inference(m, exchange{
		read: func() (*inferRequest, error) {
			raw, f := body(ctx)
			if f != nil {
				return nil, f
			}
			jsonSize, f := jsonPart(ctx, len(raw))
			if f != nil {
				return nil, f
			}
			return parseInfer(raw, jsonSize)
		},
		write: func(r *inferRequest, outputs []tensor.Tensor, chosen []chosenOutput) error {
			return writeInfer(ctx, m, r, outputs, chosen)
		},
		patience: func() (patience, func()) { return s.patience(ctx) },
	})
}

// exchange is how a V2 inference request comes and is answered, which differs between REST and
// gRPC.
type exchange struct {
	// read yields the request. Its error is a *fault, or about an input that m does not take.
	read func() (*inferRequest, error)
	// write answers. Its error is a value that the answer cannot carry.
	write func(r *inferRequest, outputs []tensor.Tensor, chosen []chosenOutput) error
	// patience is how long the client waits; leave is called in the end.
	patience func() (p patience, leave func())
}

// inference serves a V2 inference request for the model m.
func (s *Server) inference(m *Model, x exchange) *fault {
	begun := s.options.Now()
	return s.account(m, func() *fault {
		request, err := x.read()
		if f, ok := err.(*fault); ok {
			return f
		}
		if err != nil {
			return badInput(m, err)
		}
		inputs, err := m.arrange(request.inputs)
		if err != nil {
			return badInput(m, err)
		}
		chosen, f := m.choose(request)
		if f != nil {
			return f
		}
		p, leave := x.patience()
		defer leave()
		p, end := p.with(request.priority, request.timeout)
		defer end()
		outputs, f := s.run(p, m, inputs)
		if f != nil {
			return f
		}
		if err := x.write(request, outputs, chosen); err != nil {
			return &fault{status: fasthttp.StatusInternalServerError, kind: faultModel, message: err.Error()}
		}
		now := s.options.Now()
		s.succeeded(m, inputs, outputs, now, now.Sub(begun))
		return nil
	})
}

// jsonPart is how many bytes of the body are JSON: all, but when the header says less.
func jsonPart(ctx *fasthttp.RequestCtx, whole int) (int, *fault) {
	header := string(ctx.Request.Header.Peek(jsonSizeHeader))
	if header == "" {
		return whole, nil
	}
	n, err := strconv.ParseUint(header, 10, 31)
	if err != nil || n == 0 || int(n) > whole {
		return 0, badRequest("%s is %q; want the number of bytes of JSON, 1 to %d, that begin the body",
			jsonSizeHeader, clip(header), whole)
	}
	return int(n), nil
}

// chosenOutput is an output to answer: its position and whether in binary.
type chosenOutput struct {
	at     int
	binary bool
}

// choose finds the outputs that the request asks for, all when it does not say.
func (m *Model) choose(r *inferRequest) ([]chosenOutput, *fault) {
	specs := m.signature.Outputs
	if len(r.outputs) == 0 {
		chosen := make([]chosenOutput, len(specs))
		for i := range chosen {
			chosen[i] = chosenOutput{i, r.binaryOutput}
		}
		return chosen, nil
	}
	chosen := make([]chosenOutput, len(r.outputs))
	for i, out := range r.outputs {
		at := indexSpec(specs, out.name)
		if at < 0 {
			return nil, badRequest("the model has no output %q; model %s gives %s", clip(out.name), m.Name, specNames(specs))
		}
		binary := r.binaryOutput
		if out.binarySet {
			binary = out.binary
		}
		chosen[i] = chosenOutput{at, binary}
	}
	return chosen, nil
}

func specNames(specs []tensor.Spec) string {
	names := ""
	for i := range specs {
		if i > 0 {
			names += ", "
		}
		names += specs[i].String()
	}
	return names
}

// hashed is a short hash of an identifier, for the log.
func hashed(id []byte) string {
	sum := sha256.Sum256(id)
	return hex.EncodeToString(sum[:8])
}
