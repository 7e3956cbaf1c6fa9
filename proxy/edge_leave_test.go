package proxy_test

import (
	"io"
	"net"
	"slices"
	"testing"
	"time"
)

// TestEdgeClientLeaves: a client that goes while weir waits for an answer, or for the next event of one, ends the work
// of the endpoint, which says nothing meanwhile and is given all the time it wants. A client that only ends its side
// counts as gone, too. How long that takes is logged.
func TestEdgeClientLeaves(t *testing.T) {
	const rounds = 20
	for name, answer := range map[string]string{
		"before the head":    "",
		"in a silent stream": eventsHead + "Transfer-Encoding: chunked\r\n\r\n9\r\ndata: a\n\n\r\n",
	} {
		for how, leave := range map[string]func(*net.TCPConn) error{
			"closes":        (*net.TCPConn).Close,
			"resets":        func(c *net.TCPConn) error { c.SetLinger(0); return c.Close() },
			"ends its side": (*net.TCPConn).CloseWrite,
		} {
			t.Run(how+" "+name, func(t *testing.T) {
				arrived, ended := make(chan bool, 1), make(chan time.Time, 1)
				ep := newEndpoint(t, func(s *served) {
					s.request()
					s.send(answer)
					arrived <- true
					io.Copy(io.Discard, s.br)
					ended <- time.Now()
				})
				r := start(t, setup{endpoints: []string{ep.addr}, route: "timeouts: {total: 1h, attempt: 1h, idle: 1h}"})
				var took []time.Duration
				for range rounds {
					c := r.dial(t)
					c.send("POST /predict HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\n{}")
					<-arrived
					if answer != "" {
						if _, err := c.readHead(); err != nil {
							t.Fatal(err)
						}
					}
					if len(ended) > 0 {
						t.Fatal("the attempt ended before the client left")
					}
					left := time.Now()
					if err := leave(c.Conn.(*net.TCPConn)); err != nil {
						t.Fatal(err)
					}
					took = append(took, (<-ended).Sub(left))
				}
				slices.Sort(took)
				t.Logf("the attempt ended after %v, at most %v", took[rounds/2], took[rounds-1])
				eventually(t, "the count of the requests", func() bool { return sum(r.metrics(t), "weir_requests_total", `code="499"`) == rounds })
			})
		}
	}
}
