package admin

import (
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"path"
	"runtime/debug"
	"strings"

	"go.uber.org/zap"

	"weir/config"
	"weir/internal/telemetry"
)

// guard stands before every handler: it lets in who may come in, answers a panic with 500 and forbids
// caches to keep an answer.
func (s *Server) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Cache-Control", "no-store")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("X-Frame-Options", "DENY")
		defer s.recoverPanic(w, r)
		if !open(r.URL.Path) {
			if r = s.admit(w, r); r == nil {
				return
			}
		}
		next.ServeHTTP(w, r)
	})
}

// open paths tell no stranger anything, and probes come under any name and without a token. A path that is not in
// its normal form is none of them, whatever it becomes later.
func open(p string) bool { return strings.HasPrefix(p, "/health/") && path.Clean(p) == p }

// admit returns the request with the name of who sent it, or answers it and returns nil.
func (s *Server) admit(w http.ResponseWriter, r *http.Request) *http.Request {
	tokens := s.o.Tokens.inForce()
	if !s.allowedHost(r.Host) && (tokens == nil || config.LoopbackAddress(s.o.Address)) {
		writeError(w, http.StatusForbidden, "forbidden_host",
			"the Host "+quote(r.Host)+" is not this listener's: use its IP address, localhost, or the name in admin.address")
		return nil
	}
	if !allowedOrigin(r) {
		writeError(w, http.StatusForbidden, "forbidden_origin", "requests from web pages of another origin are refused")
		return nil
	}
	if tokens == nil {
		return r
	}
	return s.authenticate(w, r, tokens)
}

// recoverPanic keeps a fault in one handler from saying anything to the client. (net/http keeps the
// process alive, but would cut the connection and log in its own words.)
func (s *Server) recoverPanic(w http.ResponseWriter, r *http.Request) {
	v := recover()
	if v == nil {
		return
	}
	if v == http.ErrAbortHandler {
		panic(v)
	}
	s.log.Error("panic in the admin API", zap.String("method", r.Method), zap.String("path", r.URL.Path),
		telemetry.Panic(v, debug.Stack()))
	writeError(w, http.StatusInternalServerError, "internal", "internal error; the log has the details")
}

// allowedHost is the guard against DNS rebinding: a page whose name was pointed at this address still
// sends its own name as Host. An address cannot be rebound, nor can localhost.
//
// A listener that others reach has names that weir does not know: of a service, of a machine, of a load
// balancer in front. There a valid token stands in for the name. A rebound page has none to send, for a
// browser adds a bearer token to no request by itself, as it does cookies and passwords; and where
// every request has to bring one, what the page can send ends with 401. On loopback nobody has a
// reason to use another name, so that both guards stay.
func (s *Server) allowedHost(hostport string) bool {
	host := hostOnly(hostport)
	if _, err := netip.ParseAddr(host); err == nil {
		return true
	}
	return equalHost(host, "localhost") || host != "" && equalHost(host, hostOnly(s.o.Address))
}

// allowedOrigin is the guard against cross-site requests. Programs send neither header; a browser
// sends Origin with everything but plain navigation, and a page cannot forge it.
func allowedOrigin(r *http.Request) bool {
	if site := r.Header.Get("Sec-Fetch-Site"); site == "cross-site" && r.Method != http.MethodGet && r.Method != http.MethodHead {
		return false
	}
	for _, origin := range r.Header.Values("Origin") {
		u, err := url.Parse(origin)
		if err != nil || u.Host == "" || !strings.EqualFold(u.Host, r.Host) {
			return false
		}
	}
	return true
}

func hostOnly(hostport string) string {
	if host, _, err := net.SplitHostPort(hostport); err == nil {
		return host
	}
	return strings.TrimSuffix(strings.TrimPrefix(hostport, "["), "]")
}

// equalHost compares names; a trailing dot says the same.
func equalHost(a, b string) bool {
	return strings.EqualFold(strings.TrimSuffix(a, "."), strings.TrimSuffix(b, "."))
}
