package admin

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"unicode"

	"weir/internal/telemetry"
	"weir/proxy"
	"weir/proxy/control"
)

// maxReason bounds in bytes the reason given with a change; it ends up in the log and the history.
const maxReason = 1024

// why are the parts that the bodies of most writes have.
type why struct {
	Reason string `json:"reason"`
	Force  bool   `json:"force"`
}

// change returns the parts of a change that do not depend on what is changed. It answers the request itself
// and returns false when one of them is not what it should be.
func change(w http.ResponseWriter, r *http.Request, y why) (control.Change, bool) {
	if len(y.Reason) > maxReason {
		writeError(w, http.StatusBadRequest, "bad_request", fmt.Sprintf("the reason has %d bytes, at most %d are kept", len(y.Reason), maxReason))
		return control.Change{}, false
	}
	e, ok := expect(w, r)
	return control.Change{Cause: proxy.Cause{By: caller(r), Reason: plain(y.Reason)}, Expect: e, Force: y.Force}, ok
}

// plain takes out of a reason what would break a line, steer a terminal, or turn the order of what is read.
func plain(reason string) string {
	return strings.TrimSpace(strings.Map(func(c rune) rune {
		switch {
		case c == '\n' || c == '\t' || c == '\r' || c == '\u2028' || c == '\u2029':
			return ' '
		case unicode.IsControl(c) || unicode.Is(unicode.Bidi_Control, c):
			return -1
		}
		return c
	}, reason))
}

// setWeights gives the variants of a route new weights, in force for the next request, or on the way there.
func (s *Server) setWeights(w http.ResponseWriter, r *http.Request) {
	var body struct {
		Weights weights `json:"weights"`
		Ramp    *span   `json:"ramp"`
		why
	}
	if !readJSON(w, r, &body, false) {
		return
	}
	if body.Weights == nil {
		writeError(w, http.StatusBadRequest, "bad_request", `"weights" is missing: {"weights":{"blue":90,"green":10},"reason":"…"}`)
		return
	}
	s.changeRoute(w, r, body.why, func(name string, c control.Change) (proxy.RouteStatus, error) {
		if body.Ramp != nil {
			return s.o.Control.Ramp(name, body.Weights, body.Ramp.Duration, c)
		}
		return s.o.Control.SetWeights(name, body.Weights, c)
	})
}

// switchTo sends all traffic of a route to one variant, or undoes that.
func (s *Server) switchTo(w http.ResponseWriter, r *http.Request) {
	var body struct {
		To   string `json:"to"`
		Back bool   `json:"back"`
		why
	}
	if !readJSON(w, r, &body, false) {
		return
	}
	if (body.To != "") == body.Back {
		writeError(w, http.StatusBadRequest, "bad_request", `want either {"to":"green"} or {"back":true}`)
		return
	}
	s.changeRoute(w, r, body.why, func(name string, c control.Change) (proxy.RouteStatus, error) {
		if body.Back {
			return s.o.Control.SwitchBack(name, c)
		}
		return s.o.Control.Switch(name, body.To, c)
	})
}

// stopRamp ends the ramp of a route where it is.
func (s *Server) stopRamp(w http.ResponseWriter, r *http.Request) {
	var body struct {
		Reason string `json:"reason"`
	}
	if readJSON(w, r, &body, true) {
		s.changeRoute(w, r, why{Reason: body.Reason}, s.o.Control.StopRamp)
	}
}

// changeRoute does f to the route of the request, and answers with the route.
func (s *Server) changeRoute(w http.ResponseWriter, r *http.Request, y why, f func(route string, c control.Change) (proxy.RouteStatus, error)) {
	c, ok := change(w, r, y)
	if !ok {
		return
	}
	route, err := f(r.PathValue("route"), c)
	if err != nil {
		s.controlFailed(w, "cannot change route "+quote(r.PathValue("route")), err)
		return
	}
	s.writeChanged(w, route.Generation, route)
}

// drain begins or ends the drain of a pool, or of the endpoint that the path names.
func (s *Server) drain(on bool) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var body why
		if !readJSON(w, r, &body, true) {
			return
		}
		c, ok := change(w, r, body)
		if !ok {
			return
		}
		pool, err := s.o.Control.Drain(r.PathValue("pool"), r.PathValue("address"), on, c)
		if err != nil {
			s.controlFailed(w, "cannot change pool "+quote(r.PathValue("pool")), err)
			return
		}
		s.writeChanged(w, pool.Generation, pool)
	}
}

// rolledBack is the answer to a rollback: To is the generation whose weights and drains are in force, and
// Changed tells whether that made a difference.
type rolledBack struct {
	Generation uint64 `json:"generation"`
	To         uint64 `json:"to"`
	Changed    bool   `json:"changed"`
}

// rollback gives routes and pools the weights and drains of an earlier generation.
func (s *Server) rollback(w http.ResponseWriter, r *http.Request) {
	var body struct {
		To *uint64 `json:"to"`
		why
	}
	if !readJSON(w, r, &body, true) {
		return
	}
	c, ok := change(w, r, body.why)
	if !ok {
		return
	}
	to := uint64(0)
	if body.To != nil {
		if to = *body.To; to == 0 { // which the Controller takes for none
			writeError(w, http.StatusUnprocessableEntity, "unknown_generation", "generation 0: generations begin with 1")
			return
		}
	}
	// What it is compared with is asked when nothing else can change any more: only then is a later
	// generation this rollback's, and not that of somebody else at the same moment.
	before, expected := uint64(0), c.Expect
	c.Expect = func(generation uint64) bool {
		before = generation
		return expected == nil || expected(generation)
	}
	generation, err := s.o.Control.Rollback(to, c)
	if err != nil {
		s.controlFailed(w, "cannot roll back", err)
		return
	}
	changed := generation != before
	if to == 0 {
		to = generation // where nothing changed those are its own
		if changed {
			to = s.wentTo(generation)
		}
	}
	s.writeChanged(w, generation, rolledBack{generation, to, changed})
}

// wentTo is the generation that the rollback went to which made generation; that one where it has left the
// history already.
func (s *Server) wentTo(generation uint64) uint64 {
	for _, h := range s.o.Control.History() {
		if h.Generation == generation {
			return h.To
		}
	}
	return generation
}

// writeChanged answers a write with the state it led to. What could not be saved is in force all the same,
// and need not be of this write: that may have changed nothing.
func (s *Server) writeChanged(w http.ResponseWriter, generation uint64, v any) {
	s.warnUnsaved(w)
	writeState(w, generation, v)
}

func (s *Server) warnUnsaved(w http.ResponseWriter) {
	if err := s.o.Control.Unsaved(); err != nil {
		text := strconv.QuoteToASCII("what was changed would not survive a restart: " + err.Error())
		w.Header().Set("Warning", "199 weir "+text)
	}
}

// controlFailed answers with the status a ControlError names; any other error is weir's own fault.
func (s *Server) controlFailed(w http.ResponseWriter, what string, err error) {
	var refused *proxy.ControlError
	if errors.As(err, &refused) {
		writeError(w, refused.Status, refused.Code, refused.Message)
		return
	}
	s.log.Error(what, telemetry.Exception(err))
	writeError(w, http.StatusInternalServerError, "internal", what+"; the log has the details")
}
