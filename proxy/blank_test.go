package proxy_test

import (
	"strings"
	"testing"
	"time"
)

// TestEdgeEmptyLinesBetweenRequests: an empty line before a request is ignored (RFC 9112, 2.2), however it
// comes, and only so many.
func TestEdgeEmptyLinesBetweenRequests(t *testing.T) {
	const get, post = "GET / HTTP/1.1\r\nHost: h\r\n\r\n", "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nab"
	for name, c := range map[string]struct {
		pieces  []string // a pause between each
		answers int      // of status 200
		refused bool     // then
	}{
		"behind a body":                {[]string{post + "\r\n", post + "\r\n", get}, 3, false},
		"pipelined":                    {[]string{post + "\r\n" + post + "\r\n" + get}, 3, false},
		"first of all":                 {[]string{"\r\n", get}, 1, false},
		"LF alone":                     {[]string{get + "\n", "\n", get}, 2, false},
		"in two packets":               {[]string{get + "\r", "\n", get}, 2, false},
		"in two packets, with request": {[]string{get + "\r", "\n" + get}, 2, false},
		"two, one by one":              {[]string{get, "\r\n", "\r\n", get}, 2, false},
		"before half a request":        {[]string{get, "\r\nGE", "T / HTTP/1.1\r\nHost: h\r\n\r\n"}, 2, false},
		"with every request":           {[]string{strings.Repeat(get+"\r\n\r\n", 20)}, 20, false},
		"a CR alone":                   {[]string{get + "\r" + get}, 1, true},
		"a CR alone, in two packets":   {[]string{get + "\r", get}, 1, true},
		"two CRs":                      {[]string{get + "\r\r\n" + get}, 1, true},
		"too many":                     {[]string{get + strings.Repeat("\r\n", 5) + get}, 1, true},
		"too many, one by one":         {[]string{get, "\r\n", "\r\n", "\r\n", "\r\n", "\r\n"}, 1, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ep := newEndpoint(t, serveOK)
			r := start(t, setup{endpoints: []string{ep.addr}})
			cl := r.dial(t)
			for _, p := range c.pieces {
				cl.send(p)
				time.Sleep(20 * time.Millisecond) // so that most of them are read one by one; all may pass together
			}
			for range c.answers {
				if m := cl.answer("GET"); m.status() != 200 {
					t.Errorf("answered with %q", m.start)
				}
			}
			if c.refused {
				cl.refused(cl.answer("GET"), 400)
				cl.closed()
				return
			}
			if m := cl.get("/last"); m.status() != 200 {
				t.Errorf("the last was answered with %q", m.start)
			}
		})
	}
}

// TestEdgeEmptyLineIsNoRequest: after an empty line a connection is idle as before: it ends without an
// answer, and an empty line now and then does not keep it.
func TestEdgeEmptyLineIsNoRequest(t *testing.T) {
	t.Parallel()
	ep := newEndpoint(t, serveOK)
	r := start(t, setup{endpoints: []string{ep.addr}, listener: "timeouts: {keep_alive: 800ms, header: 600ms}"})
	for name, then := range map[string]string{
		"one":              "\r\n",
		"half of one":      "\r",
		"one now and then": strings.Repeat("\r\n", 40), // for longer than patience
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := r.dial(t)
			began := time.Now()
			c.get("/")
			go drip(c.Conn, then, 2, 700*time.Millisecond)
			c.closed()
			notBefore(t, began, 800*time.Millisecond)
		})
	}
}
