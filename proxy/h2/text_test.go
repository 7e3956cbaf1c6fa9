package h2

import (
	"bufio"
	"bytes"
	"io"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// list makes fields of "name: value" lines.
func list(lines ...string) (all []Field) {
	for _, l := range lines {
		name, value, _ := strings.Cut(l[1:], ": ")
		all = append(all, Field{Name: l[:1] + name, Value: value})
	}
	return all
}

func lines(fields []Field) (all []string) {
	for _, f := range fields {
		all = append(all, f.Name+": "+f.Value)
	}
	return all
}

// get is a GET with more fields.
func get(more ...string) []Field { return list(append(slices.Clone(getFields), more...)...) }

func post(more ...string) []Field {
	return list(append([]string{":method: POST", ":scheme: https", ":path: /p?q=1", ":authority: host:80"}, more...)...)
}

func TestAppendRequest(t *testing.T) {
	const getHead = "GET / HTTP/1.1\r\nhost: h\r\n"
	const postHead = "POST /p?q=1 HTTP/1.1\r\nhost: host:80\r\n"
	for _, c := range []struct {
		fields []Field
		body   Body
		want   string
		frames Body
	}{
		{get(), NoBody, getHead + "\r\n", NoBody},
		{get("a: b", "accept: */*", "a: c"), NoBody, getHead + "a: b\r\naccept: */*\r\na: c\r\n\r\n", NoBody},
		{get("a: "), NoBody, getHead + "a: \r\n\r\n", NoBody},
		{get("cookie: a=1", "x: y", "cookie: b=2", "cookie: c=3"), NoBody, getHead + "cookie: a=1; b=2; c=3\r\nx: y\r\n\r\n", NoBody},
		{get("te: trailers", "trailer: x"), NoBody, getHead + "trailer: x\r\n\r\n", NoBody},
		{get("host: H"), NoBody, getHead + "\r\n", NoBody},
		{get("content-length: 0"), NoBody, getHead + "content-length: 0\r\n\r\n", NoBody},
		{get(), 5, getHead + "content-length: 5\r\n\r\n", 5},
		{list(":method: GET", ":scheme: http", ":path: /", "host: other"), NoBody, "GET / HTTP/1.1\r\nhost: other\r\n\r\n", NoBody},
		{list(":path: *", ":method: OPTIONS", ":scheme: http", ":authority: h"), NoBody, "OPTIONS * HTTP/1.1\r\nhost: h\r\n\r\n", NoBody},
		{list(":method: CONNECT", ":authority: h:1"), NoBody, "CONNECT h:1 HTTP/1.1\r\nhost: h:1\r\n\r\n", NoBody},
		{post(), NoBody, postHead + "content-length: 0\r\n\r\n", NoBody},
		{post(), 0, postHead + "content-length: 0\r\n\r\n", 0},
		{post(), 77, postHead + "content-length: 77\r\n\r\n", 77},
		{post(), Chunked, postHead + "transfer-encoding: chunked\r\n\r\n", Chunked},
		{post("content-length: 9", "expect: 100-continue"), Chunked, postHead + "expect: 100-continue\r\ncontent-length: 9\r\n\r\n", 9},
		{post("content-length: 9"), 9, postHead + "content-length: 9\r\n\r\n", 9},
		{post("content-type: application/grpc", "grpc-timeout: 1S"), Chunked, postHead + "content-type: application/grpc\r\ngrpc-timeout: 1S\r\ntransfer-encoding: chunked\r\n\r\n", Chunked},
	} {
		got, frames, err := AppendRequest([]byte("before"), c.fields, c.body)
		if err != nil || string(got) != "before"+c.want || frames != c.frames {
			t.Errorf("%v with body %d: %q, %d, %v; want %q, %d", lines(c.fields), c.body, got, frames, err, c.want, c.frames)
		}
	}
}

func TestAppendRequestRefuses(t *testing.T) {
	for _, c := range []struct {
		fields []Field
		body   Body
		why    string // part of the error
	}{
		{nil, NoBody, "no :method"},
		{list(":method: GET", ":path: /", ":authority: h"), NoBody, ":scheme is \"\""},
		{list(":method: GET", ":scheme: http", ":authority: h"), NoBody, "no :path"},
		{list(":method: GET", ":scheme: http", ":path: /"), NoBody, "neither :authority nor host"},
		{list(":method: GET", ":scheme: http", ":path: /", "host: "), NoBody, "neither :authority nor host"},
		{list(":scheme: http", ":path: /", ":authority: h"), NoBody, "no :method"},
		{get(":method: GET"), NoBody, "twice"},
		{get(":path: /"), NoBody, "twice"},
		{get(":authority: h"), NoBody, "twice"},
		{get(":scheme: http"), NoBody, "twice"},
		{get(":status: 200"), NoBody, "pseudo-field"},
		{get(":protocol: websocket"), NoBody, "pseudo-field"},
		{get("a: b", ":path: /"), NoBody, "behind other fields"},
		{list(":method: GET", ":scheme: http", ":authority: h", ":path: "), NoBody, "empty"},
		{list(":method: GET", ":scheme: http", ":authority: h", ":path: /a b"), NoBody, "space"},
		{list(":method: GET", ":scheme: http", ":authority: h", ":path: /a\tb"), NoBody, "space"},
		{list(":method: GET", ":scheme: http", ":authority: h", ":path: /a\r\nx: y"), NoBody, "control"},
		{list(":method: GET", ":scheme: http", ":authority: h", ":path: a"), NoBody, "slash"},
		{list(":method: GET", ":scheme: http", ":authority: h", ":path: *"), NoBody, "slash"},
		{list(":method: GET", ":scheme: http", ":authority: h", ":path: http://h/"), NoBody, "slash"},
		{list(":method: GET", ":scheme: http", ":authority: a b", ":path: /"), NoBody, "space"},
		{list(":method: GET", ":scheme: ftp", ":authority: h", ":path: /"), NoBody, "ftp"},
		{list(":method: GE(T", ":scheme: http", ":authority: h", ":path: /"), NoBody, "token"},
		{list(":method: GET HTTP/1.1", ":scheme: http", ":authority: h", ":path: /"), NoBody, "space"},
		{list(":method: CONNECT", ":authority: h:1", ":path: /"), NoBody, "CONNECT"},
		{list(":method: CONNECT"), NoBody, "CONNECT"},
		{get("host: other"), NoBody, "other"},
		{get("host: h", "host: g"), NoBody, "host"},
		{list(":method: GET", ":scheme: http", ":path: /", "host: a", "host: b"), NoBody, "host"},
		{get("host: h\r\nx: y"), NoBody, "control"},
		{get("Accept: x"), NoBody, "lower case"},
		{get("a b: x"), NoBody, "token"},
		{get("a\r\nb: x"), NoBody, "token"},
		{append(get(), Field{Name: "", Value: "x"}), NoBody, "without a name"},
		{append(get(), Field{Name: "a:", Value: "x"}), NoBody, "pseudo-field"},
		{get("a: b\r\nx: y"), NoBody, "control"},
		{get("a: b\nx: y"), NoBody, "control"},
		{get("a: b\x00"), NoBody, "control"},
		{get("a: b\x7f"), NoBody, "control"},
		{get("a:  b"), NoBody, "around"},
		{get("a: b "), NoBody, "around"},
		{get("a: b\t"), NoBody, "around"},
		{get("cookie: a", "cookie: b\n"), NoBody, "control"},
		{get("connection: close"), NoBody, "connection of HTTP/1.1"},
		{get("keep-alive: 5"), NoBody, "connection of HTTP/1.1"},
		{get("proxy-connection: close"), NoBody, "connection of HTTP/1.1"},
		{get("upgrade: h2c"), NoBody, "connection of HTTP/1.1"},
		{get("transfer-encoding: chunked"), NoBody, "connection of HTTP/1.1"},
		{get("te: gzip"), NoBody, "only trailers"},
		{get("te: trailers, gzip"), NoBody, "only trailers"},
		{post("content-length: 5", "content-length: 5"), Chunked, "twice"},
		{post("content-length: 5, 5"), Chunked, "no number"},
		{post("content-length: +5"), Chunked, "no number"},
		{post("content-length: -5"), Chunked, "no number"},
		{post("content-length: 0x5"), Chunked, "no number"},
		{post("content-length: "), Chunked, "no number"},
		{post("content-length: 9223372036854775808"), Chunked, "no number"},
		{post("content-length: 5"), NoBody, "0 bytes came"},
		{post("content-length: 5"), 6, "6 bytes came"},
		{post("content-length: 0"), 6, "6 bytes came"},
	} {
		got, _, err := AppendRequest([]byte("before"), c.fields, c.body)
		if err == nil || !strings.Contains(err.Error(), c.why) || string(got) != "before" {
			t.Errorf("%q: %q, %v; want an error with %q", lines(c.fields), got, err, c.why)
		}
	}
}

func TestAppendResponse(t *testing.T) {
	for _, c := range []struct {
		fields    []Field
		end, head bool
		want      string // or the error
		frames    Body
	}{
		{list(":status: 200", "a: b"), false, false, "HTTP/1.1 200 OK\r\na: b\r\ntransfer-encoding: chunked\r\n\r\n", Chunked},
		{list(":status: 200"), true, false, "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", 0},
		{list(":status: 200", "content-length: 3"), false, false, "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\n", 3},
		{list(":status: 200", "content-length: 3"), true, true, "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\n", NoBody},
		{list(":status: 200"), true, true, "HTTP/1.1 200 OK\r\n\r\n", NoBody},
		{list(":status: 304", "content-length: 3"), true, false, "HTTP/1.1 304 Not Modified\r\ncontent-length: 3\r\n\r\n", NoBody},
		{list(":status: 204", "content-length: 0"), true, false, "HTTP/1.1 204 No Content\r\n\r\n", NoBody},
		{list(":status: 103", "link: x"), false, false, "HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n", NoBody},
		{list(":status: 100"), false, false, "HTTP/1.1 100 Continue\r\n\r\n", NoBody},
		{list(":status: 599"), true, false, "HTTP/1.1 599 \r\ncontent-length: 0\r\n\r\n", 0},
		{list(":status: 200", "content-type: application/grpc", "grpc-status: 5"), true, false,
			"HTTP/1.1 200 OK\r\ncontent-type: application/grpc\r\ngrpc-status: 5\r\ncontent-length: 0\r\n\r\n", 0},
		{list(":status: 200", "set-cookie: a", "set-cookie: b"), true, false, "HTTP/1.1 200 OK\r\nset-cookie: a\r\nset-cookie: b\r\ncontent-length: 0\r\n\r\n", 0},
		{nil, true, false, "first field", NoBody},
		{list("a: b", ":status: 200"), true, false, "first field", NoBody},
		{list(":status: 200", ":status: 200"), true, false, "pseudo-field", NoBody},
		{list(":status: 20"), true, false, ":status", NoBody},
		{list(":status: 099"), true, false, ":status", NoBody},
		{list(":status: 2 0"), true, false, ":status", NoBody},
		{list(":status: 101"), false, false, ":status", NoBody},
		{list(":status: 200", ":path: /"), true, false, "pseudo-field", NoBody},
		{list(":status: 200", "A: b"), true, false, "lower case", NoBody},
		{list(":status: 200", "a: b\r\nc: d"), true, false, "control", NoBody},
		{list(":status: 200", "connection: close"), true, false, "connection of", NoBody},
		{list(":status: 200", "transfer-encoding: chunked"), false, false, "connection of", NoBody},
		{list(":status: 200", "content-length: 3"), true, false, "no bytes came", NoBody},
		{list(":status: 200", "content-length: 3", "content-length: 3"), false, false, "twice", NoBody},
	} {
		got, frames, err := AppendResponse([]byte("before"), c.fields, c.end, c.head)
		if !strings.HasPrefix(c.want, "HTTP/1.1") {
			if err == nil || !strings.Contains(err.Error(), c.want) || string(got) != "before" {
				t.Errorf("%q: %q, %v; want an error with %q", lines(c.fields), got, err, c.want)
			}
		} else if err != nil || string(got) != "before"+c.want || frames != c.frames {
			t.Errorf("%q: %q, %d, %v; want %q, %d", lines(c.fields), got, frames, err, c.want, c.frames)
		}
	}
}

func TestAppendTrailers(t *testing.T) {
	for _, c := range []struct {
		fields []Field
		want   string
		bad    bool
	}{
		{list("grpc-status: 0", "grpc-message: "), "grpc-status: 0\r\ngrpc-message: \r\n", false},
		{list("a: b", "content-length: 5", "host: x", "trailer: y", "content-type: z", "c: d"), "a: b\r\nc: d\r\n", false},
		{list(":status: 200"), "", true},
		{list("transfer-encoding: chunked"), "", true},
		{list("a: b\r\n"), "", true},
		{list("content-length: 5\r\nx: y"), "", true},
	} {
		got, err := AppendTrailers(nil, c.fields)
		if (err != nil) != c.bad || err == nil && string(got) != c.want {
			t.Errorf("%q: %q, %v; want %q, an error: %v", lines(c.fields), got, err, c.want, c.bad)
		}
	}
}

func TestListRequest(t *testing.T) {
	for _, c := range []struct {
		head string
		want []string
		body Body
	}{
		{"GET / HTTP/1.1\r\nHost: H\r\n\r\n", []string{":method: GET", ":scheme: http", ":authority: H", ":path: /"}, NoBody},
		{"POST /a?b HTTP/1.1\r\nX-A:  b c\t\r\nHost: h:1\r\nConnection: keep-alive\r\nKeep-Alive: 1\r\nUpgrade: x\r\nTE: trailers\r\nProxy-Connection: x\r\nContent-Length: 5\r\n\r\n",
			[]string{":method: POST", ":scheme: http", ":authority: h:1", ":path: /a?b", "x-a: b c", "content-length: 5"}, 5},
		{"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nE:\r\n\r\n", []string{":method: POST", ":scheme: http", ":authority: h", ":path: /", "e: "}, Chunked},
		{"POST /s/m HTTP/1.1\r\nHost: h\r\nContent-Type: application/grpc+proto\r\nContent-Length: 5\r\nA: b\r\n\r\n",
			[]string{":method: POST", ":scheme: http", ":authority: h", ":path: /s/m", "content-type: application/grpc+proto", "a: b", "te: trailers"}, 5},
		{"OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n", []string{":method: OPTIONS", ":scheme: http", ":authority: h", ":path: *"}, NoBody},
		{"GET / HTTP/1.1\r\n\r\n", nil, NoBody},
		{"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", nil, NoBody},
		{"GET http://h/ HTTP/1.1\r\nHost: h\r\n\r\n", nil, NoBody},
		{"CONNECT h:1 HTTP/1.1\r\nHost: h\r\n\r\n", nil, NoBody},
		{"GET /\r\nHost: h\r\n\r\n", nil, NoBody},
		{"GET / HTTP/1.1\r\nHost: h\r\nno colon\r\n\r\n", nil, NoBody},
		{"GET / HTTP/1.1\r\nHost: h\r\na b: c\r\n\r\n", nil, NoBody},
		{"GET / HTTP/1.1\r\nHost: h\r\nContent-Length: x\r\n\r\n", nil, NoBody},
		{"GET / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: gzip\r\n\r\n", nil, NoBody},
	} {
		var l List
		text := []byte(c.head)
		body, err := l.Request(text, false)
		if (err != nil) != (c.want == nil) || err == nil && (!slices.Equal(lines(l.Fields), c.want) || body != c.body) {
			t.Errorf("%q: %q, %d, %v; want %q, %d", c.head, lines(l.Fields), body, err, c.want, c.body)
		}
		if string(text) != c.head {
			t.Errorf("the text was changed: %q", text)
		}
	}
	var l List
	if _, err := l.Request([]byte("GET / HTTP/1.1\r\nHost: h\r\nAuthorization: x\r\nCookie: y\r\n\r\n"), true); err != nil || l.Fields[1].Value != "https" {
		t.Errorf("%v, %v", l.Fields, err)
	}
	if !l.Fields[4].Sensitive || !l.Fields[5].Sensitive || l.Fields[3].Sensitive {
		t.Errorf("what is secret: %v", l.Fields)
	}
}

func TestListResponse(t *testing.T) {
	for _, c := range []struct {
		head string
		want []string
		body Body
	}{
		{"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nDate: Mon, 01 Jan\r\n\r\n", []string{":status: 200", "content-length: 5", "date: Mon, 01 Jan"}, 5},
		{"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n", []string{":status: 200"}, Chunked},
		{"HTTP/1.1 200\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", []string{":status: 200"}, Chunked},
		{"HTTP/1.1 200 OK\r\nServer: x\r\n\r\n", []string{":status: 200", "server: x"}, UntilClose},
		{"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n", []string{":status: 204"}, NoBody},
		{"HTTP/1.1 304 Not Modified\r\nContent-Length: 7\r\n\r\n", []string{":status: 304", "content-length: 7"}, NoBody},
		{"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n", []string{":status: 103", "link: x"}, NoBody},
		{"HTTP/1.1 200 OK\r\nContent-Type: application/grpc\r\nContent-Length: 0\r\nGrpc-Status: 5\r\n\r\n",
			[]string{":status: 200", "content-type: application/grpc", "grpc-status: 5"}, 0},
		{"HTTP/1.1 101 Switching Protocols\r\n\r\n", nil, NoBody},
		{"HTTP/1.1 OK\r\n\r\n", nil, NoBody},
		{"HTTP/2 200 OK\r\n\r\n", nil, NoBody},
		{"HTTP/1.1 200 OK\r\n: x\r\n\r\n", nil, NoBody},
	} {
		var l List
		body, err := l.Response([]byte(c.head))
		if (err != nil) != (c.want == nil) || err == nil && (!slices.Equal(lines(l.Fields), c.want) || body != c.body) {
			t.Errorf("%q: %q, %d, %v; want %q, %d", c.head, lines(l.Fields), body, err, c.want, c.body)
		}
	}
	var l List
	for _, text := range []string{"Grpc-Status: 0\r\nX: y\r\n\r\n", "Grpc-Status: 0\r\nX: y\r\n", "Grpc-Status: 0\nX: y"} {
		if err := l.Trailers([]byte(text)); err != nil || !slices.Equal(lines(l.Fields), []string{"grpc-status: 0", "x: y"}) {
			t.Errorf("%q: %q, %v", text, lines(l.Fields), err)
		}
	}
}

// FuzzText: fields that are taken become a head in which the standard library reads the same request, and nothing
// else; and back.
func FuzzText(f *testing.F) {
	f.Add("GET", "/a?b", "h", "accept", "*/*", "cookie", "a=b", int64(-1))
	f.Add("POST", "/", "h:80", "content-length", "5", "te", "trailers", int64(5))
	f.Add("POST", "*", "[::1]", "host", "[::1]", "x\r\ny", "a\r\nb", int64(-2))
	f.Fuzz(func(t *testing.T, method, path, authority, n1, v1, n2, v2 string, length int64) {
		fields := []Field{{Name: ":method", Value: method}, {Name: ":scheme", Value: "http"}, {Name: ":authority", Value: authority},
			{Name: ":path", Value: path}, {Name: n1, Value: v1}, {Name: n2, Value: v2}}
		head, body, err := AppendRequest(nil, fields, Body(max(length, -2)))
		if err != nil {
			return
		}
		rest := "what follows"
		if body >= 0 {
			rest = strings.Repeat("x", int(min(body, 1000))) + rest
		}
		if n := bytes.Count(head, []byte("\r\n\r\n")); n != 1 || !bytes.HasSuffix(head, []byte("\r\n\r\n")) {
			t.Fatalf("%q has %d empty lines", head, n)
		}
		checkRead(t, head, method, path, body, rest)
		var l List
		if back, err := l.Request(head, false); err == nil {
			again, _, err := AppendRequest(nil, l.Fields, cmpBody(back))
			if err != nil || !reflect.DeepEqual(sorted(again), sorted(head)) && !strings.Contains(string(head), "application/grpc") {
				t.Errorf("%q\nbecomes %q\nand then %q, %v", head, lines(l.Fields), again, err)
			}
		}
	})
}

// cmpBody is the body to ask for so that the same head comes again.
func cmpBody(b Body) Body {
	if b >= 0 {
		return Chunked
	}
	return b
}

func sorted(head []byte) []string {
	all := strings.Split(string(head), "\r\n")
	slices.Sort(all)
	return all
}

// checkRead has the standard library read the head. It refuses some that are well-formed as far as HTTP/2 goes.
func checkRead(t *testing.T, head []byte, method, path string, body Body, rest string) {
	t.Helper()
	br := bufio.NewReader(strings.NewReader(string(head) + rest))
	r, err := http.ReadRequest(br)
	if err != nil {
		return
	}
	if r.Method != method || method != "CONNECT" && r.RequestURI != path || r.ProtoMinor != 1 {
		t.Fatalf("%q is read as %s %s", head, r.Method, r.RequestURI)
	}
	if chunked := slices.Equal(r.TransferEncoding, []string{"chunked"}); chunked != (body == Chunked) || body >= 0 && r.ContentLength != int64(body) {
		t.Fatalf("%q with body %d is read with %v and %d", head, body, r.TransferEncoding, r.ContentLength)
	}
	if body == NoBody {
		if left, _ := io.ReadAll(br); string(left) != rest {
			t.Fatalf("%q: %q is left, want %q", head, left, rest)
		}
	}
	for name := range r.Header {
		if !strings.Contains(strings.ToLower(string(head)), strings.ToLower(name)+":") {
			t.Fatalf("%q has %q", head, name)
		}
	}
}
