package admin

import (
	"net/http"
	"strings"

	"weir/config"
	"weir/proxy"
)

func (s *Server) status(w http.ResponseWriter, _ *http.Request) {
	st := s.o.State.Status()
	writeState(w, st.Generation, st)
}

func (s *Server) listRoutes(w http.ResponseWriter, _ *http.Request) {
	var last uint64
	routes := s.o.State.Status().Routes
	for _, r := range routes {
		last = max(last, r.Generation)
	}
	writeState(w, last, orEmpty(routes))
}

func (s *Server) listPools(w http.ResponseWriter, _ *http.Request) {
	var last uint64
	pools := s.o.State.Status().Pools
	for _, p := range pools {
		last = max(last, p.Generation)
	}
	writeState(w, last, orEmpty(pools))
}

func (s *Server) route(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("route")
	route, ok := s.o.State.Route(name)
	if !ok {
		s.unknownRoute(w, name)
		return
	}
	writeState(w, route.Generation, route)
}

func (s *Server) pool(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("pool")
	pool, ok := s.o.State.Pool(name)
	if !ok {
		var have []string
		for _, p := range s.o.State.Status().Pools {
			have = append(have, p.Name)
		}
		writeError(w, http.StatusNotFound, "unknown_pool", "unknown pool "+quote(name)+" (have "+strings.Join(have, ", ")+")")
		return
	}
	writeState(w, pool.Generation, pool)
}

func (s *Server) unknownRoute(w http.ResponseWriter, name string) {
	var have []string
	for _, r := range s.o.State.Status().Routes {
		have = append(have, r.Name)
	}
	writeError(w, http.StatusNotFound, "unknown_route", "unknown route "+quote(name)+" (have "+strings.Join(have, ", ")+")")
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
func orEmpty[T proxy.RouteStatus | proxy.PoolStatus](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}
