package admin

import "net/http"

// drift answers with how far the scores of a route's versions are apart, after it has asked their endpoints.
func (s *Server) drift(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("route")
	report, err := s.o.Control.Drift(r.Context(), name)
	if err != nil {
		s.controlFailed(w, "there is nothing to show of the drift of route "+quote(name), err)
		return
	}
	route, _ := s.o.Control.Route(name)
	writeState(w, route.Generation, report)
}
