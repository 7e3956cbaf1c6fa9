package admin

import "net/http"

// health is the answer of the three probes.
type health struct {
	Status  string   `json:"status"`
	Reasons []string `json:"reasons,omitempty"`
}

// live answers as long as the process can answer at all.
func (s *Server) live(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, http.StatusOK, health{Status: "alive"})
}

// ready says whether to send requests here.
func (s *Server) ready(w http.ResponseWriter, _ *http.Request) {
	if reasons := s.o.Ready(); len(reasons) > 0 {
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
