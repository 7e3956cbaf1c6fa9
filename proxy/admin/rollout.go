package admin

import (
	"net/http"

	"weir/balancer/rollout"
	"weir/config"
	"weir/proxy/control"
)

// startRollout begins a rollout, and answers 201 with its state.
func (s *Server) startRollout(w http.ResponseWriter, r *http.Request) {
	var body struct {
		To       string `json:"to"`
		From     string `json:"from"`
		Strategy string `json:"strategy"`
		why
	}
	if !readJSON(w, r, &body, false) {
		return
	}
	if body.To == "" {
		writeError(w, http.StatusBadRequest, "bad_request", `"to" is missing: {"to":"green","reason":"…"}`)
		return
	}
	switch body.Strategy {
	case "", config.StrategyCanary, config.StrategyBlueGreen, config.StrategyAuto:
	default:
		writeError(w, http.StatusBadRequest, "bad_request", "unknown strategy "+quote(body.Strategy)+"; want canary, blue_green or auto")
		return
	}
	s.rollout(w, r, body.why, http.StatusCreated, func(c control.Change) (control.RolloutStatus, error) {
		return s.o.Control.StartRollout(r.PathValue("route"), control.RolloutOptions{To: body.To, From: body.From, Strategy: body.Strategy}, c)
	})
}

// commandRollout gives the rollout of a route an order.
func (s *Server) commandRollout(order rollout.Command) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var body struct {
			Reason string `json:"reason"`
		}
		if !readJSON(w, r, &body, true) {
			return
		}
		s.rollout(w, r, why{Reason: body.Reason}, http.StatusOK, func(c control.Change) (control.RolloutStatus, error) {
			return s.o.Control.CommandRollout(r.PathValue("route"), order, c)
		})
	}
}

// rollout does f and answers with the state of the rollout.
func (s *Server) rollout(w http.ResponseWriter, r *http.Request, y why, status int, f func(control.Change) (control.RolloutStatus, error)) {
	c, ok := change(w, r, y)
	if !ok {
		return
	}
	state, err := f(c)
	if err != nil {
		s.controlFailed(w, "cannot change the rollout of route "+quote(r.PathValue("route")), err)
		return
	}
	s.warnUnsaved(w)
	if route, ok := s.o.Control.Route(state.Route); ok {
		setETag(w, route.Generation)
	}
	writeJSON(w, status, state)
}

// rolloutState answers with the rollout of a route that is under way, or its last one.
func (s *Server) rolloutState(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("route")
	route, ok := s.o.Control.Route(name)
	if !ok {
		s.unknownRoute(w, name)
		return
	}
	state, ok := s.o.Control.Rollout(name)
	if !ok {
		writeError(w, http.StatusNotFound, "no_rollout", "route "+quote(name)+" has had no rollout yet")
		return
	}
	writeState(w, route.Generation, state)
}

// listRollouts answers with those of all routes.
func (s *Server) listRollouts(w http.ResponseWriter, _ *http.Request) {
	writeState(w, s.o.Control.Generation(), s.o.Control.Rollouts())
}
