package admin

import (
	"net/http"
	"strconv"
	"strings"

	"weir/config"
	"weir/internal/state"
	"weir/proxy"
)

func (s *Server) status(w http.ResponseWriter, _ *http.Request) {
	st := s.o.Control.Status()
	writeState(w, st.Generation, st)
}

func (s *Server) listRoutes(w http.ResponseWriter, _ *http.Request) {
	var last uint64
	routes := s.o.Control.Status().Routes
	for _, r := range routes {
		last = max(last, r.Generation)
	}
	writeState(w, last, orEmpty(routes))
}

func (s *Server) listPools(w http.ResponseWriter, _ *http.Request) {
	var last uint64
	pools := s.o.Control.Status().Pools
	for _, p := range pools {
		last = max(last, p.Generation)
	}
	writeState(w, last, orEmpty(pools))
}

func (s *Server) route(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("route")
	route, ok := s.o.Control.Route(name)
	if !ok {
		s.unknownRoute(w, name)
		return
	}
	writeState(w, route.Generation, route)
}

// mirror answers with what became of the copies of a route's requests, and some of those whose answers disagree.
func (s *Server) mirror(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("route")
	route, _ := s.o.Control.Route(name)
	report, err := s.o.Control.Mirror(name)
	if err != nil {
		s.controlFailed(w, "the mirror could not be shown", err)
		return
	}
	writeState(w, route.Generation, report)
}

func (s *Server) pool(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("pool")
	pool, ok := s.o.Control.Pool(name)
	if !ok {
		s.unknownPool(w, name)
		return
	}
	writeState(w, pool.Generation, pool)
}

// scale answers with what a pool bears and how many replicas it should have, as KEDA's metrics-api scaler reads it.
func (s *Server) scale(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("pool")
	pool, ok := s.o.Control.Scale(name)
	if !ok {
		s.unknownPool(w, name)
		return
	}
	writeJSON(w, http.StatusOK, pool)
}

func (s *Server) unknownPool(w http.ResponseWriter, name string) {
	var have []string
	for _, p := range s.o.Control.Status().Pools {
		have = append(have, p.Name)
	}
	writeError(w, http.StatusNotFound, "unknown_pool", "unknown pool "+quote(name)+" (have "+strings.Join(have, ", ")+")")
}

func (s *Server) unknownRoute(w http.ResponseWriter, name string) {
	var have []string
	for _, r := range s.o.Control.Status().Routes {
		have = append(have, r.Name)
	}
	writeError(w, http.StatusNotFound, "unknown_route", "unknown route "+quote(name)+" (have "+strings.Join(have, ", ")+")")
}

// history answers with the last changes, oldest first.
func (s *Server) history(w http.ResponseWriter, r *http.Request) {
	kept := s.o.Control.History()
	if text := r.URL.Query().Get("limit"); text != "" {
		limit, err := strconv.ParseUint(text, 10, 31)
		if err != nil || limit == 0 {
			writeError(w, http.StatusBadRequest, "bad_request", "limit "+quote(text)+": want a whole number from 1 up")
			return
		}
		kept = kept[max(0, len(kept)-int(limit)):]
	}
	generation := s.o.Control.Generation()
	if n := len(kept); n > 0 { // a change is in the history a moment before it is in force
		generation = kept[n-1].Generation
	}
	writeState(w, generation, orEmpty(kept))
}

// config answers with the configuration in force, every default filled in, in the shape of the file.
func (s *Server) config(w http.ResponseWriter, _ *http.Request) {
	cfg, generation := s.o.Config()
	body, err := config.RenderJSON(cfg)
	if err != nil {
		panic(err) // what was loaded can be shown; guard answers 500
	}
	setETag(w, generation)
	writeRaw(w, http.StatusOK, body)
}

// orEmpty makes an empty list [] and not null.
func orEmpty[T proxy.RouteStatus | proxy.PoolStatus | state.Change | string](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}
