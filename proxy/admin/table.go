package admin

import (
	"maps"
	"net/http"
	"slices"

	"strings"
	"weir/balancer/rollout"
)

// table is every path of the API with its methods, as http.ServeMux writes paths.
func (s *Server) table(metrics http.Handler) map[string]methods {
	return map[string]methods{
		"/{$}":            {http.MethodGet: s.index},
		"/metrics":        {http.MethodGet: metrics.ServeHTTP},
		"/health/live":    {http.MethodGet: s.live},
		"/health/ready":   {http.MethodGet: s.ready},
		"/health/startup": {http.MethodGet: s.startup},

		"/api/v1/status":         {http.MethodGet: s.status},
		"/api/v1/routes":         {http.MethodGet: s.listRoutes},
		"/api/v1/routes/{route}": {http.MethodGet: s.route},
		"/api/v1/pools":          {http.MethodGet: s.listPools},
		"/api/v1/pools/{pool}":   {http.MethodGet: s.pool},
		"/api/v1/scale/{pool}":   {http.MethodGet: s.scale},
		"/api/v1/config":         {http.MethodGet: s.config},
		"/api/v1/history":        {http.MethodGet: s.history},
		"/api/v1/events":         {http.MethodGet: s.events},
		"/api/v1/openapi.yaml":   {http.MethodGet: s.openAPI},

		"/api/v1/routes/{route}/mirror":  {http.MethodGet: s.mirror},
		"/api/v1/routes/{route}/drift":   {http.MethodGet: s.drift},
		"/api/v1/routes/{route}/weights": {http.MethodPut: s.setWeights},
		"/api/v1/routes/{route}/ramp":    {http.MethodDelete: s.stopRamp},
		"/api/v1/routes/{route}/switch":  {http.MethodPost: s.switchTo},
		"/api/v1/routes/{route}/rollout": {http.MethodGet: s.rolloutState, http.MethodPost: s.startRollout},
		"/api/v1/rollouts":               {http.MethodGet: s.listRollouts},
		"/api/v1/pools/{pool}/drain":     {http.MethodPost: s.drain(true)},
		"/api/v1/pools/{pool}/undrain":   {http.MethodPost: s.drain(false)},
		"/api/v1/rollback":               {http.MethodPost: s.rollback},
		"/api/v1/reload":                 {http.MethodPost: s.reload},
		"/ab/config":                     {http.MethodPost: s.abConfig},

		"/api/v1/routes/{route}/experiment":          {http.MethodGet: s.experiment},
		"/api/v1/routes/{route}/experiment/outcomes": {http.MethodPost: s.reportOutcomes},

		"/api/v1/routes/{route}/rollout/pause":   {http.MethodPost: s.commandRollout(rollout.Pause)},
		"/api/v1/routes/{route}/rollout/resume":  {http.MethodPost: s.commandRollout(rollout.Resume)},
		"/api/v1/routes/{route}/rollout/promote": {http.MethodPost: s.commandRollout(rollout.Promote)},
		"/api/v1/routes/{route}/rollout/abort":   {http.MethodPost: s.commandRollout(rollout.Abort)},

		"/api/v1/routes/{route}/cache/purge": {http.MethodPost: s.purgeCache},

		"/api/v1/pools/{pool}/endpoints/{address}/drain":   {http.MethodPost: s.drain(true)},
		"/api/v1/pools/{pool}/endpoints/{address}/undrain": {http.MethodPost: s.drain(false)},
	}
}

// serveTable answers what is in the table. A path that is there with other methods answers 405, any other
// 404.
func serveTable(table map[string]methods) http.Handler {
	mux := http.NewServeMux()
	for path, byMethod := range table {
		mux.Handle(path, byMethod)
	}
	mux.Handle(debugPath, profiles())
	mux.HandleFunc("/", notFound)
	return mux
}

// methods answers one path by method.
type methods map[string]http.HandlerFunc

func (m methods) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	method := r.Method
	if method == http.MethodHead {
		method = http.MethodGet
	}
	if h, ok := m[method]; ok {
		h(w, r)
		return
	}
	names := slices.Sorted(maps.Keys(m))
	if i := slices.Index(names, http.MethodGet); i >= 0 {
		names = slices.Insert(names, i+1, http.MethodHead)
	}
	allow := strings.Join(names, ", ")
	w.Header().Set("Allow", allow)
	writeError(w, http.StatusMethodNotAllowed, "method_not_allowed", r.Method+" is not possible here: use "+allow)
}
