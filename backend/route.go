package backend

import (
	"bytes"
	"fmt"
	"net/http"
	"strings"

	"github.com/prometheus/common/expfmt"
	"github.com/valyala/fasthttp"
)

// route answers a request, or says why it cannot. Paths are taken as they were sent: a name
// with an escape or a dot segment in it is not resolved but refused.
func (s *Server) route(ctx *fasthttp.RequestCtx) *fault {
	path := string(ctx.URI().PathOriginal())
	var get func(*fasthttp.RequestCtx)
	switch path {
	case "/predict":
		if f := allow(ctx, fasthttp.MethodPost); f != nil {
			return f
		}
		return s.predict(ctx)
	case "/health":
		get = s.health
	case "/health/ready", "/ready":
		get = s.ready
	case "/health/live":
		get = s.live
	case "/health/startup":
		get = s.startup
	case "/metrics":
		get = s.scrape
	case "/drift":
		get = s.drifts
	case "/drift/reference":
		return s.driftReference(ctx)
	case "/v2/health/live":
		get = s.v2Live
	case "/v2/health/ready":
		get = s.v2Ready
	case "/v2", "/v2/":
		get = s.v2Server
	default:
		if rest, ok := strings.CutPrefix(path, "/v2/models/"); ok {
			return s.v2Model(ctx, strings.Split(rest, "/"))
		}
		if rest, ok := strings.CutPrefix(path, "/v2/repository/"); ok {
			return s.v2Repository(ctx, rest)
		}
		return unknownPath(path)
	}
	if f := allow(ctx, fasthttp.MethodGet); f != nil {
		return f
	}
	get(ctx)
	return nil
}

func unknownPath(path string) *fault {
	return &fault{status: fasthttp.StatusNotFound, kind: faultNone,
		message: fmt.Sprintf("there is nothing at %q; see POST /predict, GET /health and GET /v2", clip(path))}
}

// allow refuses other methods than this one; where GET is allowed, so is HEAD.
func allow(ctx *fasthttp.RequestCtx, method string) *fault {
	is := string(ctx.Method())
	if is == method || is == fasthttp.MethodHead && method == fasthttp.MethodGet {
		return nil
	}
	ctx.Response.Header.Set("Allow", method)
	return &fault{status: fasthttp.StatusMethodNotAllowed, kind: faultNone, message: fmt.Sprintf("the method is %s; want %s", clip(is), method)}
}

// loadedModels are the models, once there are any.
func (s *Server) loadedModels() (*repository, *fault) {
	if models := s.repository.Load(); models != nil {
		return models, nil
	}
	return nil, &fault{status: fasthttp.StatusServiceUnavailable, kind: faultNotReady, message: "the models are being loaded; try again soon"}
}

// body is the request's body, which must be sent as it is.
func body(ctx *fasthttp.RequestCtx) ([]byte, *fault) {
	coding := ctx.Request.Header.ContentEncoding()
	if len(coding) > 0 && !bytes.EqualFold(coding, []byte("identity")) {
		ctx.Response.Header.Set("Accept-Encoding", "identity")
		return nil, &fault{status: fasthttp.StatusUnsupportedMediaType, kind: faultRequest,
			message: fmt.Sprintf("the body is encoded as %q; want it as it is", clip(string(coding)))}
	}
	return ctx.Request.Body(), nil
}

// scrape answers the metrics in the format that the client prefers.
func (s *Server) scrape(ctx *fasthttp.RequestCtx) {
	families, err := s.metrics.registry.Gather()
	if err != nil {
		s.fail(ctx, &fault{status: fasthttp.StatusInternalServerError, kind: faultNone, message: "cannot gather the metrics: " + err.Error()})
		return
	}
	accept := http.Header{"Accept": {string(ctx.Request.Header.Peek("Accept"))}}
	format := expfmt.NegotiateAccept(accept, expfmt.DefaultAcceptedFormats()...)
	var page bytes.Buffer
	encoder := expfmt.NewEncoder(&page, format)
	for _, family := range families {
		if err := encoder.Encode(family); err != nil {
			panic("BUG: a gathered metric family does not encode: " + err.Error())
		}
	}
	ctx.SetContentType(string(format))
	ctx.Response.SetBodyRaw(page.Bytes())
}

// size prints a number of bytes as a configuration would have it.
func size(bytes int) string {
	switch {
	case bytes >= 1<<20 && bytes%(1<<20) == 0:
		return fmt.Sprintf("%d MiB", bytes>>20)
	case bytes >= 1<<10 && bytes%(1<<10) == 0:
		return fmt.Sprintf("%d KiB", bytes>>10)
	}
	return fmt.Sprintf("%d bytes", bytes)
}
