package proxy_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// answered is an answer as a client reads it.
type answered struct {
	refused bool // the proxy's own error, or nothing
	whole   bool
	status  int
	body    string
}

func (a answered) String() string {
	if a.refused {
		return "refused"
	}
	return fmt.Sprintf("%d %.200q, whole: %v", a.status, a.body, a.whole)
}

// readAnswer is how net/http reads the answer to a request with this method. No answer of the tests has a status that
// proxies answer with by themselves.
func readAnswer(b []byte, method string) answered {
	br := bufio.NewReader(bytes.NewReader(b))
	for {
		r, err := http.ReadResponse(br, &http.Request{Method: method})
		if err != nil || r.StatusCode >= 502 && r.StatusCode <= 504 {
			return answered{refused: true}
		}
		if r.StatusCode < 200 {
			continue
		}
		body, err := io.ReadAll(r.Body)
		return answered{whole: err == nil, status: r.StatusCode, body: string(body)}
	}
}

// nginxTab: nginx takes a tab before a value for a part of it, and so knows neither the length nor the chunks. A tab there is
// as good as a space (RFC 9110, 5.6.3); weir, HAProxy and net/http read it so, and weir does not pass it on.
var nginxTab = regexp.MustCompile(`(?i)(content-length|transfer-encoding): *\t`)

// TestEdgeDifferentialAnswers has the endpoint send doubtful answers through weir, nginx and HAProxy: what weir passes
// on as whole is one answer to a strict parser, and the one that net/http and whoever else passes it on read.
func TestEdgeDifferentialAnswers(t *testing.T) {
	weir := &reader{name: "weir", ep: newRecorder(t)}
	weir.addr = start(t, setup{endpoints: []string{weir.ep.addr}, route: "retry: \"off\""}).addr
	peers := newPeers(t)
	mutations := 150
	if os.Getenv("WEIR_PROVE") != "" {
		mutations = 20000
	}
	inputs := slices.Concat(doubtfulAnswers(), mutated(doubtfulAnswers(), mutations))
	whole, tabs := 0, 0
	for i, input := range inputs {
		method := []string{"GET", "HEAD", "POST"}[i%5/2] // more often GET and HEAD
		a := weir.answers(t, method, input)
		if a.whole {
			whole++
		}
		all := map[string]answered{"net/http": readAnswer(printable([]byte(input)), method)}
		for _, p := range peers {
			all[p.name] = p.answers(t, method, input)
		}
		if nginxTab.MatchString(input) {
			tabs++
			all["nginx"] = answered{refused: true}
		}
		if why := answersDiffer(a, all); why != "" {
			t.Errorf("%s was answered with %q: %s\nweir:     %v\nnet/http: %v\nnginx:    %v\nHAProxy:  %v", method, input, why, a, all["net/http"], all["nginx"], all["haproxy"])
		}
	}
	if tabs == 0 {
		t.Error("no answer has a tab that nginx misreads")
	}
	if whole < len(inputs)/8 {
		t.Errorf("only %d of %d answers went through: the test tests little", whole, len(inputs))
	}
}

// answers returns what p makes of an answer of its endpoint's; of weir's the form is checked strictly.
func (p *reader) answers(t testing.TB, method, answer string) answered {
	t.Helper()
	p.ep.mu.Lock()
	p.ep.answer = answer
	p.ep.mu.Unlock()
	b := p.exchange(t, method+" /first HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
	p.ep.take(t)
	if p.name == "weir" {
		w := &wire{br: bufio.NewReader(bytes.NewReader(b))}
		_, _, err := w.readResponse(method)
		_, malformed := err.(malformedError)
		if rest, _ := io.ReadAll(w.br); malformed || err == nil && len(rest) > 0 {
			t.Errorf("%s was answered with %q, of which weir made %q: %v, %q behind it", method, answer, b, err, rest)
		}
	}
	return readAnswer(b, method)
}

func answersDiffer(a answered, others map[string]answered) string {
	if a.refused || !a.whole {
		return ""
	}
	accepted := false
	for _, name := range []string{"net/http", "nginx", "haproxy"} {
		switch o := others[name]; {
		case name == "net/http" && (o.refused || !o.whole):
			return "weir passes on as whole what net/http does not read"
		case o.refused || !o.whole:
		case name == "net/http" && o.body == string(printable([]byte(a.body))) && o.status == a.status: // which has read it like that
		case o != a:
			return "weir and " + name + " read different answers"
		default:
			accepted = accepted || name != "net/http"
		}
	}
	if !accepted {
		return refusedElsewhere
	}
	return ""
}

// doubtfulAnswers are those of the table of fault classes, and more of their kind.
func doubtfulAnswers() (all []string) {
	add := func(format string, args ...any) { all = append(all, fmt.Sprintf(format, args...)) }
	const second = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nPOISON"
	sized := func(fields string) { add("HTTP/1.1 200 OK\r\n%s\r\nContent-Length: 5\r\n\r\nhello", fields) }
	for _, line := range []string{"HTTP/1.1 200 OK", "HTTP/1.1 200 ", "HTTP/1.1 200", "HTTP/1.0 200 OK", "HTTP/1.1  200 OK", "HTTP/1.1\t200\tOK", "HTTP/1.1 20 OK", "HTTP/1.1 2000 OK", "HTTP/1.1 abc OK", "HTTP/1.1 +20 OK", "HTTP/1.1 099 OK", "HTTP/1.1 000 OK",
		"HTTP/1.1 999 OK", "HTTP/1.1 600 OK", "HTTP/2.0 200 OK", "HTTP/1.2 200 OK", "HTTP/9.9 200 OK", "HTTP/1.10 200 OK", "http/1.1 200 OK", "HTTP/1.1 200 O\rK", "HTTP/1.1 200 O\x00K", "HTTP/1.1 200 \xff", "HTTP/1.1 200OK", "BANANA", "", "HTTP/1.1", "ICY 200 OK",
		"HTTP/1.1 200 OK\r", " HTTP/1.1 200 OK", "\r\nHTTP/1.1 200 OK", "\x15\x03\x01\x00\x02\x02\x46", "HTTP/1.1 204 No Content", "HTTP/1.1 304 Not Modified", "HTTP/1.1 205 Reset Content", "HTTP/1.1 101 Switching\r\nUpgrade: x", "HTTP/1.1 100 Continue",
		"HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 200 OK", "HTTP/1.1 103 Early\r\nContent-Length: 9\r\n\r\nHTTP/1.1 200 OK", "HTTP/1.1 404 Not Found", "HTTP/1.1 500 Error", "HTTP/1.1 301 Moved\r\nLocation: /x"} {
		add("%s\r\nContent-Length: 5\r\n\r\nhello", line)
		add("%s\r\nContent-Length: 5\r\n\r\nhello%s", line, second)
		add("%s\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n%s", line, second)
		add("%s\r\n\r\nhello", line)
		add("%s\nContent-Length: 5\n\nhello", line)
	}
	for _, te := range []string{"chunked", "xchunked", "chunked, identity", "identity, chunked", "gzip, chunked", "chunked, chunked", ",chunked", "chunked,", "\x0bchunked", "chunked\x0c", "\"chunked\"", "chunked;p=1", "chunked\x00", "identity", "", "CHUNKED", "\tchunked\t",
		"chunked\r\nTransfer-Encoding: chunked", "chunked\r\nTransfer-Encoding: identity", "identity\r\nTransfer-Encoding: chunked", "chunked\r\nContent-Length: 5", "chunked\r\nContent-Length: 3", "\r\n chunked", "chunked\nX: y", "chunked\rX: y"} {
		add("HTTP/1.1 200 OK\r\nTransfer-Encoding: %s\r\n\r\n5\r\nhello\r\n0\r\n\r\n%s", te, second)
		add("HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: %s\r\n\r\n5\r\nhello\r\n0\r\n\r\n", te)
		add("HTTP/1.0 200 OK\r\nTransfer-Encoding: %s\r\n\r\n5\r\nhello\r\n0\r\n\r\n", te)
	}
	for _, cl := range []string{"5|6", "6|5", "5, 6", "+5", "-5", "0x5", "5.0", "5 5", "5;", "", " ", "5_0", "5\x00", "9223372036854775808", "18446744073709551621", "5|5", "5, 5", "5,", "05", "0", "00", "\x0b5", "5\r", "\t5", "1", "999", "3"} {
		fields := ""
		for v := range strings.SplitSeq(cl, "|") {
			fields += "Content-Length: " + v + "\r\n"
		}
		add("HTTP/1.1 200 OK\r\n%s\r\nhello", fields)
		add("HTTP/1.1 200 OK\r\n%s\r\nhello%s", fields, second)
	}
	for _, chunks := range []string{"5\r\nhello\r\n0\r\n\r\n", "5\r\nhello\r\n0\r\n", "5\r\nhello\r\n", "5\r\nhel", "FFFFFFFFFFFFFFFFF\r\nhello\r\n0\r\n\r\n", "10000000000000005\r\nhello\r\n0\r\n\r\n", "-5\r\nhello\r\n0\r\n\r\n", "0x5\r\nhello\r\n0\r\n\r\n", "\r\nhello\r\n0\r\n\r\n",
		" 5\r\nhello\r\n0\r\n\r\n", "5 \r\nhello\r\n0\r\n\r\n", "5\x00\r\nhello\r\n0\r\n\r\n", "3\r\nhello\r\n0\r\n\r\n", "5\r\nhelloX0\r\n\r\n", "5\nhello\n0\n\n", "5\r\nhello\n0\r\n\r\n", "5\rhello\r\n0\r\n\r\n", "5;a=b\r\nhello\r\n0;x\r\n\r\n", "5;a\nb\r\nhello\r\n0\r\n\r\n",
		"5;\nhello\r\n0\r\n\r\n", "005\r\nhello\r\n000\r\n\r\n", "5\r\nhello\r\n0\r\nX: y\r\n\r\n", "5\r\nhello\r\n0\r\nContent-Length: 9\r\n\r\n", "5\r\nhello\r\n0\r\nX : y\r\n\r\n", "5\r\nhello\r\n0\r\nX: a\rb\r\n\r\n", "5\r\nhello\r\n0\r\nX\r\n\r\n", "5\r\nhello\r\n0\n\n", "g\r\n", ""} {
		add("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%s", chunks)
		add("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X\r\n\r\n%s%s", chunks, second)
	}
	for _, line := range []string{"X: a\rb", "X: a\x00b", "X: a\x0bb", "X: a\x7fb", "X: a\r\n b", "X : a", "X\t: a", "X", ": a", "", "X: \xff", "X\xff: a", "X\x00: a", "(X): a", "X:", "X_Y: a", "X: " + strings.Repeat("a", 3000), "X: a\n", "X: a\r\r\n", "\r", "Connection: close, Content-Length",
		"Connection: keep-alive", "Upgrade: websocket\r\nConnection: upgrade", "Set-Cookie: a\r\nSet-Cookie: b", "X-Weir-Variant: evil", "Content-Length : 3", " Content-Length: 3", "Content_Length: 3", "X: y\nContent-Length: 3", "X: y\rContent-Length: 3", "Proxy-Authenticate: x"} {
		sized(line)
		add("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n%s\r\n\r\nhello%s", line, second)
		add("HTTP/1.1 204 No Content\r\n%s\r\n\r\n%s", line, second)
	}
	return all
}
