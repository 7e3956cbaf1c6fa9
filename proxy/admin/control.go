package admin

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"weir/config"
	"weir/internal/telemetry"
	"weir/proxy"
)

// maxReason bounds in bytes the reason given with a change; it ends up in the log and the history.
const maxReason = 1024

// setWeights gives the variants of a route new weights, in force for the next request.
func (s *Server) setWeights(w http.ResponseWriter, r *http.Request) {
	var body struct {
		Weights weights `json:"weights"`
		Reason  string  `json:"reason"`
	}
	if !readJSON(w, r, &body, false) {
		return
	}
	if body.Weights == nil {
		writeError(w, http.StatusBadRequest, "bad_request", `"weights" is missing: {"weights":{"blue":90,"green":10},"reason":"…"}`)
		return
	}
	if len(body.Reason) > maxReason {
		writeError(w, http.StatusBadRequest, "bad_request", fmt.Sprintf("the reason has %d bytes, at most %d are kept", len(body.Reason), maxReason))
		return
	}
	name := r.PathValue("route")
	route, err := s.o.SetWeights(name, body.Weights, body.Reason, caller(r))
	if err != nil {
		s.controlFailed(w, "cannot set the weights of route "+quote(name), err)
		return
	}
	writeState(w, route.Generation, route)
}

// controlFailed answers with the status a ControlError names; any other error is weir's own fault.
func (s *Server) controlFailed(w http.ResponseWriter, what string, err error) {
	var control *proxy.ControlError
	if errors.As(err, &control) {
		writeError(w, control.Status, control.Code, control.Message)
		return
	}
	s.log.Error(what, telemetry.Exception(err))
	writeError(w, http.StatusInternalServerError, "internal", what+"; the log has the details")
}

// reload reads the configuration again and answers once it is in force, or rejected.
func (s *Server) reload(w http.ResponseWriter, r *http.Request) {
	if !readJSON(w, r, &struct{}{}, true) {
		return
	}
	generation, err := s.o.Reload(caller(r))
	if err != nil {
		writeJSON(w, http.StatusUnprocessableEntity, failure{
			Error:  fmt.Sprintf("the configuration was rejected, generation %d stays in force", generation),
			Code:   "config_rejected",
			Faults: faultLines(err),
		})
		return
	}
	setETag(w, generation)
	writeJSON(w, http.StatusOK, struct {
		Generation uint64 `json:"generation"`
	}{generation})
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

// weights is an object of numbers that is read strictly: encoding/json would take the last of two
// equal names and 0 for null, and a slip of the pen would move traffic.
type weights map[string]float64

// UnmarshalJSON implements json.Unmarshaler.
func (w *weights) UnmarshalJSON(data []byte) error {
	decoder := json.NewDecoder(bytes.NewReader(data))
	open, err := decoder.Token()
	if err != nil {
		return err
	}
	if open != json.Delim('{') {
		return fmt.Errorf(`"weights" must be an object of numbers such as {"blue":90,"green":10}, not %s`, data)
	}
	*w = weights{}
	for decoder.More() {
		name, err := decoder.Token()
		if err != nil {
			return err
		}
		key, _ := name.(string) // the decoder lets nothing else stand here
		if _, twice := (*w)[key]; twice {
			return fmt.Errorf("weights: %q is named twice", key)
		}
		value, err := decoder.Token()
		if err != nil {
			return err
		}
		number, ok := value.(float64)
		if !ok {
			return fmt.Errorf("weights: the weight of %q must be a number", key)
		}
		(*w)[key] = number
	}
	return nil
}
