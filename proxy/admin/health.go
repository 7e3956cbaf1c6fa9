package admin

import (
	"net/http"

	"weir/config"
)

// health is the answer of the three probes.
type health struct {
	Status  string   `json:"status"`
	Reasons []string `json:"reasons,omitempty"`
}

// live answers as long as the process can answer at all.
func (s *Server) live(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, http.StatusOK, health{Status: "alive"})
}

// ready says whether to send requests here. Why not it tells those who may know how weir is made: on loopback
// everybody, elsewhere who brings a token.
func (s *Server) ready(w http.ResponseWriter, r *http.Request) {
	if reasons := s.o.Ready(); len(reasons) > 0 {
		if tokens := s.o.Tokens.inForce(); tokens != nil && !config.LoopbackAddress(s.o.Address) && !bearsToken(r, tokens) {
			reasons = nil
		}
		writeJSON(w, http.StatusServiceUnavailable, health{Status: "not ready", Reasons: reasons})
		return
	}
	writeJSON(w, http.StatusOK, health{Status: "ready"})
}

func (s *Server) startup(w http.ResponseWriter, _ *http.Request) {
	if !s.o.Started() {
		writeJSON(w, http.StatusServiceUnavailable, health{Status: "starting"})
		return
	}
	writeJSON(w, http.StatusOK, health{Status: "started"})
}

// bearsToken reports whether a request brings a token that is in force.
func bearsToken(r *http.Request, tokens *TokenSet) bool {
	secret, why := bearer(r)
	if why != "" {
		return false
	}
	_, ok := tokens.find(secret)
	return ok
}
