package admin

import (
	"fmt"
	"math"
	"net/http"
	"strings"

	"weir/proxy"
)

// abUpdated is the answer of POST /ab/config.
type abUpdated struct {
	Status string   `json:"status"`
	Config abConfig `json:"config"`
}

// abConfig are the variants of a route with two of them, in the order of the file.
type abConfig struct {
	A abVariant `json:"A"`
	B abVariant `json:"B"`
}

type abVariant struct {
	Endpoint string  `json:"endpoint"` // URL of the pool's first endpoint
	Traffic  float64 `json:"traffic"`  // percent
}

// abConfig sets what part of the requests goes to the first of two variants.
func (s *Server) abConfig(w http.ResponseWriter, r *http.Request) {
	var body struct {
		Percentage *float64 `json:"model_a_percentage"`
	}
	if !readJSON(w, r, &body, false) {
		return
	}
	if body.Percentage == nil {
		writeError(w, http.StatusBadRequest, "bad_request", `"model_a_percentage" is missing: {"model_a_percentage":30}`)
		return
	}
	a := *body.Percentage
	if a < 0 || a > 100 {
		writeError(w, http.StatusUnprocessableEntity, "invalid_percentage", fmt.Sprintf("model_a_percentage %v: want 0 to 100", a))
		return
	}
	route, refused := s.abRoute(r.URL.Query().Get("route"))
	if refused != nil {
		s.controlFailed(w, "", refused)
		return
	}
	c, ok := change(w, r, why{Reason: "POST /ab/config"})
	if !ok {
		return
	}
	b := math.Round((100-a)*1e9) / 1e9 // 100-70.1 is 29.900000000000006
	first, second := route.Variants[0].Pool, route.Variants[1].Pool
	now, err := s.o.Control.SetWeights(route.Name, map[string]float64{first: a, second: b}, c)
	if err != nil {
		s.controlFailed(w, "cannot change route "+quote(route.Name), err)
		return
	}
	s.writeChanged(w, now.Generation, abUpdated{"updated", abConfig{
		A: abVariant{s.endpointURL(first), a}, B: abVariant{s.endpointURL(second), b},
	}})
}

// abRoute is the route of that name, which must have two variants; without a name, the only one that has.
func (s *Server) abRoute(name string) (proxy.RouteStatus, error) {
	var have, two []string
	var found proxy.RouteStatus
	for _, r := range s.o.Control.Status().Routes {
		have = append(have, r.Name)
		if len(r.Variants) == 2 {
			two = append(two, r.Name)
		}
		if r.Name == name || name == "" && len(r.Variants) == 2 {
			found = r
		}
	}
	names := strings.Join(two, ", ")
	switch {
	case found.Name == "" && name != "":
		return found, &proxy.ControlError{Status: http.StatusNotFound, Code: "unknown_route",
			Message: "unknown route " + quote(name) + " (have " + strings.Join(have, ", ") + ")"}
	case len(two) == 0:
		return found, &proxy.ControlError{Status: http.StatusConflict, Code: "no_ab_route", Message: "no route has two variants"}
	case len(found.Variants) != 2:
		return found, &proxy.ControlError{Status: http.StatusConflict, Code: "no_ab_route",
			Message: fmt.Sprintf("route %s has %d variants, not two (routes with two: %s)", name, len(found.Variants), names)}
	case name == "" && len(two) > 1:
		return found, &proxy.ControlError{Status: http.StatusConflict, Code: "ambiguous_route",
			Message: "several routes have two variants: name one of " + names + " in ?route="}
	}
	return found, nil
}

func (s *Server) endpointURL(pool string) string {
	p, _ := s.o.Control.Pool(pool)
	if len(p.Endpoints) == 0 {
		return ""
	}
	return "http://" + p.Endpoints[0].Address
}
