package admin

import (
	"errors"
	"fmt"
	"net/http"

	"weir/config"
	"weir/proxy"
)

// reloaded is the answer to a reload; Changes says, a line each, what it changed.
type reloaded struct {
	Generation uint64   `json:"generation"`
	Changes    []string `json:"changes"`
}

// reload reads the configuration again and answers once it is in force, or rejected.
func (s *Server) reload(w http.ResponseWriter, r *http.Request) {
	if !readJSON(w, r, &struct{}{}, true) {
		return
	}
	expected, ok := expect(w, r)
	if !ok {
		return
	}
	// What changes between this and the reload is not seen. Weights set meanwhile survive a reload that
	// leaves their route's split alone, so that little is lost by it.
	if now := s.o.Control.Generation(); expected != nil && !expected(now) {
		writeError(w, http.StatusPreconditionFailed, "precondition_failed", fmt.Sprintf("weir was changed meanwhile: it is at generation %d now", now))
		return
	}
	generation, changes, err := s.o.Reload(caller(r))
	var refused *proxy.ControlError
	if errors.As(err, &refused) { // weir is in no state to read anything
		writeError(w, refused.Status, refused.Code, refused.Message)
		return
	}
	if err != nil {
		writeJSON(w, http.StatusUnprocessableEntity, failure{
			Error:  fmt.Sprintf("the configuration was rejected, generation %d stays in force", generation),
			Code:   "config_rejected",
			Faults: faultLines(err),
		})
		return
	}
	s.writeChanged(w, generation, reloaded{generation, orEmpty(changes)})
}

func faultLines(err error) []string {
	var faults config.Faults
	if !errors.As(err, &faults) {
		return []string{err.Error()}
	}
	lines := make([]string, len(faults))
	for i, f := range faults {
		lines[i] = f.Error()
	}
	return lines
}
