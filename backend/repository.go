package backend

import (
	"errors"
	"fmt"
	"strings"

	"github.com/valyala/fasthttp"
)

// repository holds the models that are served. It does not change: a change makes another one.
type repository struct {
	models []*Model // those of one name side by side; the first is /predict's
}

// of are the versions of the model of this name.
func (r *repository) of(name string) []*Model {
	var models []*Model
	for _, m := range r.models {
		if m.Name == name {
			models = append(models, m)
		}
	}
	return models
}

func (r *repository) has(name, version string) bool {
	for _, m := range r.models {
		if m.Name == name && m.Version == version {
			return true
		}
	}
	return false
}

// first is the model that /predict serves.
func (r *repository) first() (*Model, *fault) {
	if len(r.models) == 0 {
		return nil, &fault{status: fasthttp.StatusServiceUnavailable, kind: faultNotReady, message: "no model is loaded"}
	}
	return r.models[0], nil
}

// find returns the model of this name and version; an empty version is the name's first.
func (r *repository) find(name, version string) (*Model, *fault) {
	if !validName(name) {
		return nil, badRequest("the model name %q is not valid; want %s", clip(name), nameAlphabet)
	}
	if version != "" && !validName(version) {
		return nil, badRequest("the version %q is not valid; want %s", clip(version), nameAlphabet)
	}
	for _, m := range r.models {
		if m.Name == name && (version == "" || m.Version == version) {
			return m, nil
		}
	}
	have := r.names()
	what := fmt.Sprintf("there is no model %s", name)
	if versions := r.versions(name); len(versions) > 0 {
		what, have = fmt.Sprintf("model %s has no version %s", name, version), versions
	}
	return nil, &fault{status: fasthttp.StatusNotFound, kind: faultUnknownModel, message: fmt.Sprintf("%s (have %s)", what, strings.Join(have, ", "))}
}

// clip shortens what a client sent for a message about it.
func clip(s string) string {
	const most = 64
	if len(s) > most {
		return s[:most] + "…"
	}
	return s
}

func (r *repository) versions(name string) []string {
	var versions []string
	for _, m := range r.models {
		if m.Name == name {
			versions = append(versions, m.Version)
		}
	}
	return versions
}

func (r *repository) names() []string {
	var names []string
	seen := make(map[string]bool)
	for _, m := range r.models {
		if !seen[m.Name] {
			names = append(names, m.Name)
			seen[m.Name] = true
		}
	}
	return names
}

// close closes models that were never served.
func (r *repository) close() error {
	var all []error
	for _, m := range r.models {
		all = append(all, m.runner.Close())
	}
	return errors.Join(all...)
}
