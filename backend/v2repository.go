package backend

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/valyala/fasthttp"
)

// The model repository extension of the Open Inference Protocol V2, as Triton has it: an index, load and unload.

// versionsParameter is the parameter of a load that names the versions to serve, with commas between
// them; the first is the one that requests without a version get.
const versionsParameter = "versions"

// v2LoadedAnswer is the answer to load and unload: what is served of the model now.
type v2LoadedAnswer struct {
	Name     string   `json:"name"`
	Versions []string `json:"versions"`
}

// v2Repository answers what is below /v2/repository/.
func (s *Server) v2Repository(ctx *fasthttp.RequestCtx, rest string) *fault {
	if rest == "index" {
		if f := allow(ctx, fasthttp.MethodPost); f != nil {
			return f
		}
		return s.v2Index(ctx)
	}
	parts := strings.Split(rest, "/")
	if len(parts) != 3 || parts[0] != "models" || parts[2] != "load" && parts[2] != "unload" {
		return unknownPath(string(ctx.URI().PathOriginal()))
	}
	if f := allow(ctx, fasthttp.MethodPost); f != nil {
		return f
	}
	var request struct {
		Parameters map[string]json.RawMessage `json:"parameters"`
	}
	if f := smallJSON(ctx, &request); f != nil {
		return f
	}
	parameters := make(map[string]string)
	for key, raw := range request.Parameters {
		var text string
		if json.Unmarshal(raw, &text) != nil {
			text = string(raw) // a number or a boolean, which no known parameter is but unload_dependents
		}
		parameters[key] = text
	}
	if f := s.control(parts[1], parts[2] == "load", parameters); f != nil {
		return f
	}
	a := v2LoadedAnswer{Name: parts[1], Versions: []string{}}
	if models := s.repository.Load(); models != nil {
		a.Versions = append(a.Versions, models.versions(a.Name)...)
	}
	answer(ctx, fasthttp.StatusOK, a)
	return nil
}

// smallJSON reads the body into v; an empty one is as good as {}.
func smallJSON(ctx *fasthttp.RequestCtx, v any) *fault {
	raw, f := body(ctx)
	if f != nil || len(raw) == 0 {
		return f
	}
	if err := json.Unmarshal(raw, v); err != nil {
		return &fault{status: fasthttp.StatusBadRequest, kind: faultNone, message: "the body is not the JSON that is wanted here: " + err.Error()}
	}
	return nil
}

func (s *Server) v2Index(ctx *fasthttp.RequestCtx) *fault {
	var request struct {
		Ready bool `json:"ready"`
	}
	if f := smallJSON(ctx, &request); f != nil {
		return f
	}
	all, err := s.registry.index(request.Ready)
	if err != nil {
		return &fault{status: fasthttp.StatusInternalServerError, kind: faultNone, message: err.Error()}
	}
	answer(ctx, fasthttp.StatusOK, all)
	return nil
}

// control loads a model with these parameters, or unloads it.
func (s *Server) control(name string, load bool, parameters map[string]string) *fault {
	if !s.options.Control {
		return &fault{status: fasthttp.StatusForbidden, kind: faultNone,
			message: "models cannot be loaded or unloaded by requests; repository.control: true in the configuration allows it"}
	}
	if !validName(name) {
		return &fault{status: fasthttp.StatusBadRequest, kind: faultNone, message: fmt.Sprintf("the model name %q is not valid; want %s", clip(name), nameAlphabet)}
	}
	versions, f := loadParameters(load, parameters)
	if f != nil {
		return f
	}
	err := error(nil)
	if load {
		err = s.registry.load(name, versions)
	} else {
		err = s.registry.unload(name)
	}
	if err == nil {
		return nil
	}
	if errors.As(err, &f) {
		return f
	}
	return &fault{status: fasthttp.StatusUnprocessableEntity, kind: faultNone, message: err.Error() + "; what was served before is served on"}
}

// loadParameters are the versions to load. A parameter that is not understood is refused: what it asks for would not
// happen.
func loadParameters(load bool, parameters map[string]string) (versions []string, f *fault) {
	for key, value := range parameters {
		switch {
		case load && key == versionsParameter:
			versions = strings.Split(value, ",")
			for i, v := range versions {
				if !validName(v) || slices.Contains(versions[:i], v) {
					return nil, &fault{status: fasthttp.StatusBadRequest, kind: faultNone,
						message: fmt.Sprintf("parameters: versions is %q; want each version once, with commas between them", clip(value))}
				}
			}
		case !load && key == "unload_dependents": // no model has any
		default:
			return nil, &fault{status: fasthttp.StatusBadRequest, kind: faultNone,
				message: fmt.Sprintf("parameters: %q is not understood; a load takes versions, such as \"2,1\", and an unload nothing", clip(key))}
		}
	}
	return versions, nil
}
