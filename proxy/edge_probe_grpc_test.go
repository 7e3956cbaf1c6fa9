package proxy_test

import (
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"weir/backend/backendtest"
	"weir/config"
)

// TestEdgeProbeGRPC: health by gRPC's health checking, with what is wrong in the status.
func TestEdgeProbeGRPC(t *testing.T) {
	g := backendtest.NewGRPC(t, backendtest.GRPCBehaviour{})
	g.SetHealth("a.B", false)
	for _, c := range []struct {
		name, service, want string // want is a part of the error; "": healthy
		probe               *backendtest.GRPCBehaviour
	}{
		{"the server", "", "", nil},
		{"not serving", "a.B", "grpc.health.v1.Health/Check of a.B: NOT_SERVING; want SERVING", nil},
		{"unknown", "c.D", "NOT_FOUND: the endpoint knows no such service", nil},
		{"no health service", "", "UNIMPLEMENTED: the endpoint has no health service", &backendtest.GRPCBehaviour{Code: codes.Unimplemented}},
		{"fails", "", "grpc.health.v1.Health/Check ended with INTERNAL: oh no", &backendtest.GRPCBehaviour{Code: codes.Internal, Status: "oh no"}},
		{"hangs", "", "to grpc.health.v1.Health/Check within", &backendtest.GRPCBehaviour{Fault: backendtest.FaultHangBeforeHead}},
		{"breaks off", "", "grpc.health.v1.Health/Check", &backendtest.GRPCBehaviour{Fault: backendtest.FaultCloseBeforeHead}},
		{"nonsense", "", "the answer is no", &backendtest.GRPCBehaviour{Messages: 1, Body: []byte("nonsense")}},
	} {
		t.Run(c.name, func(t *testing.T) {
			g.SetBehaviour(backendtest.GRPCBehaviour{Probe: c.probe})
			r, _ := overGRPC(t, setup{change: func(cfg *config.Config) {
				p := config.DefaultProbe()
				p.Path, p.GRPC, p.Interval, p.Timeout = "", &config.HealthService{Name: c.service}, 300*time.Millisecond, 200*time.Millisecond
				cfg.Pools[0].Probe = &p
			}}, g)
			before := g.Counts()
			eventually(t, "the verdict", func() bool {
				p, _ := r.Pool("blue")
				e := p.Endpoints[0]
				return e.Healthy == (c.want == "") && strings.Contains(e.Probe, c.want) && sum(r.metrics(t), "weir_probes_total") > 0
			})
			if p := g.Probes(); p[len(p)-1].Method != config.HealthMethod || g.Counts().Calls != before.Calls {
				t.Errorf("the server was asked %+v", p[len(p)-1])
			}
		})
	}
	t.Run("back", func(t *testing.T) {
		g.SetBehaviour(backendtest.GRPCBehaviour{})
		r, c := overGRPC(t, setup{change: func(cfg *config.Config) {
			p := config.DefaultProbe()
			p.Path, p.GRPC, p.Interval, p.Timeout, p.Rise, p.Fall = "", &config.HealthService{Name: "a.B"}, 50*time.Millisecond, 50*time.Millisecond, 1, 1
			cfg.Pools[0].Probe = &p
		}}, g)
		healthy := func() bool { p, _ := r.Pool("blue"); return p.Endpoints[0].Healthy }
		eventually(t, "not serving", func() bool { return !healthy() })
		g.SetHealth("a.B", true)
		eventually(t, "serving", healthy)
		if got, err := c.Unary(patient(t), modelInfer, []byte("m")); err != nil || string(got) != "m" {
			t.Errorf("%q, %v", got, err)
		}
	})
}
