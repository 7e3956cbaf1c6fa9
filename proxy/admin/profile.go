package admin

import (
	"net/http"
	"net/http/pprof"
)

// debugPath is where Go's profiles are. They are no part of the described API: their form is the toolchain's. A token that
// may only read does not get them, since a profile costs the process and tells its command line.
const debugPath = "/debug/pprof/"

// profiles answers what go tool pprof asks for.
func profiles() http.Handler {
	mux := http.NewServeMux()
	for name, h := range map[string]http.HandlerFunc{
		"": pprof.Index, "cmdline": pprof.Cmdline, "profile": pprof.Profile, "symbol": pprof.Symbol, "trace": pprof.Trace,
	} {
		mux.Handle(debugPath+name, methods{http.MethodGet: h})
	}
	return mux
}
