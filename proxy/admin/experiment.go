package admin

import (
	"net/http"

	"weir/proxy"
)

// experiment answers with what the experiment of a route has come to.
func (s *Server) experiment(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("route")
	result, err := s.o.Control.Experiment(name)
	if err != nil {
		s.controlFailed(w, "there is nothing to show of the experiment of route "+quote(name), err)
		return
	}
	route, _ := s.o.Control.Route(name)
	writeState(w, route.Generation, result)
}

// reported is the answer to outcomes that are told.
type reported struct {
	Accepted int             `json:"accepted"`
	Refused  []refusedReport `json:"refused"`
}

type refusedReport struct {
	RequestID string `json:"request_id"`
	Name      string `json:"name"`
	Error     string `json:"error"`
}

// reportOutcomes notes outcomes of requests that have ended. Each counts for itself.
func (s *Server) reportOutcomes(w http.ResponseWriter, r *http.Request) {
	var body struct {
		Outcomes []struct {
			RequestID string  `json:"request_id"`
			Name      string  `json:"name"`
			Value     float64 `json:"value"`
		} `json:"outcomes"`
	}
	if !readJSON(w, r, &body, false) {
		return
	}
	if len(body.Outcomes) == 0 {
		writeError(w, http.StatusBadRequest, "bad_request", `no outcomes: want {"outcomes":[{"request_id":"…","name":"…","value":1}]}`)
		return
	}
	expected, ok := expect(w, r)
	if !ok {
		return
	}
	name := r.PathValue("route")
	if _, err := s.o.Control.Experiment(name); err != nil {
		s.controlFailed(w, "cannot note outcomes", err)
		return
	}
	route, _ := s.o.Control.Route(name)
	if expected != nil && !expected(route.Generation) {
		writeError(w, http.StatusPreconditionFailed, "precondition_failed", "route "+quote(name)+" was changed meanwhile")
		return
	}
	answer := reported{Refused: []refusedReport{}}
	for _, o := range body.Outcomes {
		err := s.o.Control.ReportOutcome(name, o.RequestID, o.Name, o.Value)
		if _, gone := err.(*proxy.ControlError); gone {
			s.controlFailed(w, "cannot note outcomes", err)
			return
		}
		if err != nil {
			answer.Refused = append(answer.Refused, refusedReport{o.RequestID, o.Name, err.Error()})
			continue
		}
		answer.Accepted++
	}
	s.writeChanged(w, route.Generation, answer)
}
