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
	answer(ctx, fasthttp.StatusOK, v2ServerAnswer{"weir-backend", s.options.Build, []string{"binary_tensor_data"}})
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
	var m *Model
	models, f := s.loadedModels()
	if f == nil {
		m, f = models.find(name, version)
	}
	if f != nil {
		if action == "infer" {
			s.unnamed.count(f)
		}
		return f
	}
	switch {
	case len(rest) > 1:
		return unknownPath(string(ctx.URI().PathOriginal()))
	case action == "":
		answer(ctx, fasthttp.StatusOK, describe(models, m))
	case action == "ready":
		ready := s.readiness().Ready
		answerIf(ctx, ready, v2ReadyAnswer{m.Name, ready})
	case action == "infer":
		return s.infer(ctx, m)
	default:
		return unknownPath(string(ctx.URI().PathOriginal()))
	}
	return nil
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

func (s *Server) infer(ctx *fasthttp.RequestCtx, m *Model) *fault {
	begun := s.options.Now()
	return s.account(ctx, m, func() *fault {
		raw, f := body(ctx)
		if f != nil {
			return f
		}
		jsonSize, f := jsonPart(ctx, len(raw))
		if f != nil {
			return f
		}
		request, err := parseInfer(raw, jsonSize)
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
		outputs, f := s.run(m, inputs)
		if f != nil {
			return f
		}
		if err := writeInfer(ctx, m, request, outputs, chosen); err != nil {
			return &fault{fasthttp.StatusInternalServerError, faultModel, err.Error()}
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
