package proxy_test

import (
	"io"
	"testing"
)

// TestEdgeBodyThatNeverCame: the head was valid, so the request counts, whatever became of its body.
func TestEdgeBodyThatNeverCame(t *testing.T) {
	ep := newEndpoint(t, serveOK)
	r := start(t, setup{endpoints: []string{ep.addr}, listener: "timeouts: {body: 300ms}"})
	const head = "POST / HTTP/1.1\r\nHost: h\r\n"
	for _, c := range []struct {
		name, request, code string
		leave               bool
	}{
		{"small, stalled", head + "Content-Length: 9\r\n\r\nabc", "408", false},
		{"small, left", head + "Content-Length: 9\r\n\r\nabc", "499", true},
		{"large, stalled", head + "Content-Length: 100000\r\n\r\nabc", "408", false},
		{"large, left", head + "Content-Length: 100000\r\n\r\nabc", "499", true},
		{"chunked, stalled", head + "Transfer-Encoding: chunked\r\n\r\n9\r\nabc", "408", false},
		{"chunked, left", head + "Transfer-Encoding: chunked\r\n\r\n9\r\nabc", "499", true},
	} {
		before, bad := countWith(t, r, c.code), sum(r.metrics(t), "weir_bad_requests_total")
		cl := r.dial(t)
		cl.send(c.request)
		if c.leave {
			cl.Close()
		} else {
			cl.refused(cl.answer("POST"), 408)
			cl.closed()
		}
		eventually(t, c.name+": counted as "+c.code, func() bool { return countWith(t, r, c.code) == before+1 })
		if n := sum(r.metrics(t), "weir_bad_requests_total"); n != bad {
			t.Errorf("%s: counted as a bad head", c.name)
		}
	}
	if got := ep.got(); len(got) != 0 {
		t.Errorf("the endpoint got %q", got)
	}
}

// TestEdgeSmallBodyRefusedKeepsTheConnection: an error in answer to a small body costs no connection.
func TestEdgeSmallBodyRefusedKeepsTheConnection(t *testing.T) {
	ep := newEndpoint(t, serveOK)
	r := start(t, setup{endpoints: []string{ep.addr}, route: "match: {path: /here}"})
	c := r.dial(t)
	for range 3 {
		if _, err := io.WriteString(c.Conn, "POST /elsewhere HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nGET /"); err != nil {
			t.Fatal(err)
		}
		c.refused(c.answer("POST"), 404)
	}
	if m := c.get("/here"); m.status() != 200 {
		t.Errorf("after them: %q", m.start)
	}
}

func countWith(t *testing.T, r *running, code string) float64 {
	return sum(r.metrics(t), "weir_requests_total", `code="`+code+`"`)
}
