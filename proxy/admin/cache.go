package admin

import "net/http"

// purged is the answer to a purge.
type purged struct {
	Purged int `json:"purged"` // answers
}

// purgeCache forgets answers that the cache of a route keeps.
func (s *Server) purgeCache(w http.ResponseWriter, r *http.Request) {
	var body struct {
		Path   *string `json:"path"`
		Prefix *string `json:"prefix"`
		Reason string  `json:"reason"`
	}
	if !readJSON(w, r, &body, true) {
		return
	}
	path, below := "", body.Prefix != nil
	switch {
	case body.Path != nil && below:
		writeError(w, http.StatusBadRequest, "bad_request", `want either {"path":"/x"} or {"prefix":"/x"}, or {} for everything`)
		return
	case body.Path != nil:
		path = *body.Path
	case below:
		path = *body.Prefix
	}
	if path == "" && (below || body.Path != nil) { // a variable of a script that is not set must not mean everything
		writeError(w, http.StatusUnprocessableEntity, "invalid_path", `an empty path: want one that begins with /, or {} for everything`)
		return
	}
	c, ok := change(w, r, why{Reason: body.Reason})
	if !ok {
		return
	}
	route, n, err := s.o.Control.PurgeCache(r.PathValue("route"), path, below, c)
	if err != nil {
		s.controlFailed(w, "cannot purge the cache of route "+quote(r.PathValue("route")), err)
		return
	}
	s.writeChanged(w, route.Generation, purged{n})
}
