package admin

import (
	"context"
	"net"
	"net/http"
	"path"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"
)

// authenticate asks for a token that may do what the request wants. It returns the request with the
// token's name, or answers it and returns nil.
func (s *Server) authenticate(w http.ResponseWriter, r *http.Request, tokens *TokenSet) *http.Request {
	secret, why := bearer(r)
	t, ok := token{}, false
	if why == "" {
		if t, ok = tokens.find(secret); !ok {
			why = "the token is not one of those in force"
		}
	}
	if !ok {
		s.logRefusal(r, why)
		w.Header().Set("WWW-Authenticate", "Bearer")
		writeError(w, http.StatusUnauthorized, "unauthorized",
			why+": send one as Authorization: Bearer TOKEN (weir's own commands take --token-file or WEIR_TOKEN)")
		return nil
	}
	reads := r.Method == http.MethodGet || r.Method == http.MethodHead || r.Method == http.MethodOptions
	if !t.write && (!reads || strings.HasPrefix(path.Clean(r.URL.Path)+"/", debugPath)) {
		writeError(w, http.StatusForbidden, "read_only", "the token "+quote(t.name)+" may only read: use one that is given as NAME:write:TOKEN")
		return nil
	}
	return r.WithContext(context.WithValue(r.Context(), callerKey{}, t.name))
}

// bearer returns the token of a request, or why there is none.
func bearer(r *http.Request) (secret, why string) {
	values := r.Header.Values("Authorization")
	if len(values) == 0 {
		return "", "a token is required"
	}
	scheme, secret, _ := strings.Cut(values[0], " ")
	if len(values) > 1 || !strings.EqualFold(scheme, "Bearer") {
		return "", "the Authorization is not one bearer token"
	}
	return strings.Trim(secret, " "), ""
}

// callerKey is where a request's context has the name of its token.
type callerKey struct{}

// caller names who asked, for log and history: the token's name and the address.
func caller(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		host = r.RemoteAddr
	}
	name, ok := r.Context().Value(callerKey{}).(string)
	if !ok {
		name = "api"
	}
	return name + " " + host
}

// logRefusal tells of a failed login, without what was tried: it may be a slip in a real token.
func (s *Server) logRefusal(r *http.Request, why string) {
	untold, tell := s.refused.next(time.Now())
	if !tell {
		return
	}
	s.log.Warn("a request to the admin API was refused", zap.String("why", why), zap.String("by", caller(r)),
		zap.String("method", r.Method), zap.String("path", quote(r.URL.Path)), zap.Int("untold", untold))
}

// refusals lets one line a second into the log, however many are tried.
type refusals struct {
	mu     sync.Mutex
	last   time.Time
	untold int // since the last line
}

func (f *refusals) next(now time.Time) (untold int, tell bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if now.Sub(f.last) < time.Second {
		f.untold++
		return 0, false
	}
	untold = f.untold
	f.last, f.untold = now, 0
	return untold, true
}
