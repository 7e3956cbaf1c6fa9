package proxy_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// The edge tests of HTTP/2 send real frames, also those that no client would, and read what weir answers with a framer
// that is not weir's.

// frames is a raw HTTP/2 connection to weir.
type frames struct {
	net.Conn
	t     testing.TB
	fr    *http2.Framer
	enc   *hpack.Encoder
	block bytes.Buffer
	next  uint32
	ended map[uint32]*reply // streams that have ended
	begun map[uint32]*reply
	away  *http2.GoAwayFrame // the last one
	code  http2.ErrCode      // and its code
	acks  int                // of SETTINGS
	pongs int
	saw   map[http2.SettingID]uint32
}

// reply is what came on a stream.
type reply struct {
	heads [][]hpack.HeaderField // interim ones, the head, and trailers
	body  []byte
	whole bool          // it ended with END_STREAM
	reset bool          // it was reset
	code  http2.ErrCode // with this
}

func (p *reply) status() string {
	for i := range p.heads {
		for _, f := range p.heads[i] {
			if f.Name == ":status" && f.Value[0] != '1' {
				return f.Value
			}
		}
	}
	return ""
}

// value is the value of a field of the last list.
func (p *reply) value(name string) string {
	for _, f := range p.heads[len(p.heads)-1] {
		if f.Name == name {
			return f.Value
		}
	}
	return ""
}

// frames begins a connection with these settings.
func (r *running) frames(t testing.TB, settings ...http2.Setting) *frames {
	t.Helper()
	nc, err := connect(r.addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nc.Close() })
	nc.SetDeadline(time.Now().Add(2 * patience))
	f := &frames{Conn: nc, t: t, next: 1, ended: map[uint32]*reply{}, begun: map[uint32]*reply{}, saw: map[http2.SettingID]uint32{}}
	f.fr = http2.NewFramer(nc, nc)
	f.fr.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	f.fr.AllowIllegalWrites = true
	f.enc = hpack.NewEncoder(&f.block)
	if _, err := io.WriteString(nc, http2.ClientPreface); err != nil {
		t.Fatal(err)
	}
	f.try(f.fr.WriteSettings(settings...))
	return f
}

// try ignores the error of a write: weir may have ended the connection, which its frames tell.
func (f *frames) try(error) {}

// fields are a list: name, value, name, value.
func fields(pairs ...string) (l []hpack.HeaderField) {
	for i := 0; i < len(pairs); i += 2 {
		l = append(l, hpack.HeaderField{Name: pairs[i], Value: pairs[i+1]})
	}
	return l
}

// plain is the list of an ordinary request, with more fields.
func plain(method, path string, more ...string) []hpack.HeaderField {
	return fields(append([]string{":method", method, ":scheme", "http", ":authority", "h", ":path", path}, more...)...)
}

// open sends a head on a new stream.
func (f *frames) open(list []hpack.HeaderField, end bool) (id uint32) {
	id = f.next
	f.next += 2
	f.try(f.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: f.encode(list), EndStream: end, EndHeaders: true}))
	return id
}

func (f *frames) encode(list []hpack.HeaderField) []byte {
	f.block.Reset()
	for _, field := range list {
		_ = f.enc.WriteField(field)
	}
	return bytes.Clone(f.block.Bytes())
}

func (f *frames) data(id uint32, b string, end bool) { f.try(f.fr.WriteData(id, end, []byte(b))) }

// readOne takes one frame in.
func (f *frames) readOne() error {
	frame, err := f.fr.ReadFrame()
	if err != nil {
		return err
	}
	id := frame.Header().StreamID
	p := f.begun[id]
	if p == nil && id != 0 {
		p = &reply{}
		f.begun[id] = p
	}
	switch g := frame.(type) {
	case *http2.MetaHeadersFrame:
		p.heads = append(p.heads, g.Fields)
		p.whole = g.StreamEnded()
	case *http2.DataFrame:
		p.body = append(p.body, g.Data()...)
		p.whole = g.StreamEnded()
	case *http2.RSTStreamFrame:
		p.reset, p.code = true, g.ErrCode
	case *http2.GoAwayFrame:
		f.away, f.code = g, g.ErrCode
	case *http2.PingFrame:
		if g.IsAck() {
			f.pongs++
		} else {
			f.try(f.fr.WritePing(true, g.Data))
		}
	case *http2.SettingsFrame:
		if g.IsAck() {
			f.acks++
			break
		}
		_ = g.ForeachSetting(func(s http2.Setting) error { f.saw[s.ID] = s.Val; return nil })
		f.try(f.fr.WriteSettingsAck())
	}
	if p != nil && (p.whole || p.reset) {
		f.ended[id] = p
	}
	return nil
}

// answer reads until the stream has ended.
func (f *frames) answer(id uint32) *reply {
	f.t.Helper()
	f.until("the end of the stream", func() bool { return f.ended[id] != nil })
	return f.ended[id]
}

// until reads until ok.
func (f *frames) until(what string, ok func() bool) {
	f.t.Helper()
	for !ok() {
		if err := f.readOne(); err != nil {
			f.t.Fatalf("before %s: %v; GOAWAY %v", what, err, f.away)
		}
	}
}

// end reads until weir has closed the connection and returns the code of its GOAWAY.
func (f *frames) end() http2.ErrCode {
	f.t.Helper()
	code, err := f.closed()
	if err != nil {
		f.t.Fatal(err)
	}
	return code
}

func (f *frames) closed() (http2.ErrCode, error) {
	for {
		err := f.readOne()
		switch ne, timed := errors.AsType[net.Error](err); {
		case err == nil:
			continue
		case timed && ne.Timeout():
			return 0, errors.New("the connection has not ended")
		case f.away == nil:
			return 0, fmt.Errorf("the connection ended without a GOAWAY: %w", err)
		}
		return f.code, nil
	}
}

// works makes sure that the connection serves requests.
func (f *frames) works() {
	f.t.Helper()
	if p := f.answer(f.open(plain("GET", "/works"), true)); p.status() != "200" || !p.whole {
		f.t.Errorf("a request on the same connection: %+v", p)
	}
}

func TestEdgeH2MalformedRequests(t *testing.T) {
	ep := newEndpoint(t, serveOK)
	r := start(t, setup{endpoints: []string{ep.addr}})
	smuggled := "GET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n"
	for name, c := range map[string]struct {
		list []hpack.HeaderField
		body string // "": the head ends the stream
	}{
		"content-length too small":      {plain("POST", "/", "content-length", "1"), smuggled},
		"content-length 0":              {plain("POST", "/", "content-length", "0"), smuggled},
		"content-length too large":      {plain("POST", "/", "content-length", "100"), "short"},
		"content-length without a body": {plain("POST", "/", "content-length", "5"), ""},
		"content-length signed":         {plain("POST", "/", "content-length", "+5"), "12345"},
		"content-length twice":          {plain("POST", "/", "content-length", "5", "content-length", "6"), "12345"},
		"content-length list":           {plain("POST", "/", "content-length", "5, 5"), "12345"},
		"transfer-encoding":             {plain("POST", "/", "transfer-encoding", "chunked"), "0\r\n\r\n" + smuggled},
		"transfer-encoding in a value":  {plain("POST", "/", "x-a", "b\r\nTransfer-Encoding: chunked"), "0\r\n\r\n" + smuggled},
		"transfer-encoding in a name":   {plain("POST", "/", "x-a: b\r\ntransfer-encoding", "chunked"), "0\r\n\r\n" + smuggled},
		"LF in a value":                 {plain("GET", "/", "x-a", "b\nx-b: c"), ""},
		"CR in a value":                 {plain("GET", "/", "x-a", "b\rx-b: c"), ""},
		"NUL in a value":                {plain("GET", "/", "x-a", "b\x00"), ""},
		"space before a value":          {plain("GET", "/", "x-a", " b"), ""},
		"space behind a value":          {plain("GET", "/", "x-a", "b "), ""},
		"upper case":                    {plain("GET", "/", "X-A", "b"), ""},
		"space in a name":               {plain("GET", "/", "x a", "b"), ""},
		"colon in a name":               {plain("GET", "/", "x:a", "b"), ""},
		"empty name":                    {plain("GET", "/", "", "b"), ""},
		"connection":                    {plain("GET", "/", "connection", "x-a"), ""},
		"keep-alive":                    {plain("GET", "/", "keep-alive", "1"), ""},
		"proxy-connection":              {plain("GET", "/", "proxy-connection", "close"), ""},
		"upgrade":                       {plain("GET", "/", "upgrade", "websocket"), ""},
		"te":                            {plain("GET", "/", "te", "gzip"), ""},
		"space in the path":             {plain("GET", "/ HTTP/1.1\r\nHost: evil"), ""},
		"only a space in the path":      {plain("GET", "/a b"), ""},
		"relative path":                 {plain("GET", "a"), ""},
		"absolute path":                 {plain("GET", "http://h/"), ""},
		"empty path":                    {plain("GET", ""), ""},
		"space in the method":           {plain("GET / HTTP/1.1\r\nHost: evil\r\n\r\nGET", "/"), ""},
		"other authority and host":      {plain("GET", "/", "host", "evil"), ""},
		"host twice":                    {fields(":method", "GET", ":scheme", "http", ":path", "/", "host", "a", "host", "b"), ""},
		"no authority":                  {fields(":method", "GET", ":scheme", "http", ":path", "/"), ""},
		"path twice":                    {fields(":method", "GET", ":scheme", "http", ":authority", "h", ":path", "/", ":path", "/b"), ""},
		"method twice":                  {fields(":method", "GET", ":method", "POST", ":scheme", "http", ":authority", "h", ":path", "/"), ""},
		"authority twice":               {fields(":method", "GET", ":scheme", "http", ":authority", "h", ":authority", "i", ":path", "/"), ""},
		"no path":                       {fields(":method", "GET", ":scheme", "http", ":authority", "h"), ""},
		"no method":                     {fields(":scheme", "http", ":authority", "h", ":path", "/"), ""},
		"no scheme":                     {fields(":method", "GET", ":authority", "h", ":path", "/"), ""},
		"other scheme":                  {fields(":method", "GET", ":scheme", "ftp", ":authority", "h", ":path", "/"), ""},
		"pseudo-field behind others":    {fields(":method", "GET", ":scheme", "http", ":authority", "h", "x-a", "b", ":path", "/"), ""},
		"unknown pseudo-field":          {plain("GET", "/", ":x", "b"), ""},
		"pseudo-field of answers":       {fields(":status", "200", ":method", "GET", ":scheme", "http", ":authority", "h", ":path", "/"), ""},
		"connect with a path":           {plain("CONNECT", "/"), ""},
		"user in the authority":         {fields(":method", "GET", ":scheme", "http", ":authority", "u@h", ":path", "/"), ""},
	} {
		t.Run(name, func(t *testing.T) {
			before := len(ep.got())
			f := r.frames(t)
			id := f.open(c.list, c.body == "")
			if c.body != "" {
				f.data(id, c.body, true)
			}
			p := f.answer(id)
			// Where the head says all, the request is complete: it may be answered before the DATA come.
			empty := name == "content-length 0"
			if !(empty && p.status() == "200") && !(p.reset && p.code == http2.ErrCodeProtocol) && p.status() != "400" {
				t.Errorf("status %q, reset %v %v; want PROTOCOL_ERROR or 400", p.status(), p.reset, p.code)
			}
			f.works()
			got := ep.got()[before:]
			if empty {
				got = slices.DeleteFunc(got, func(line string) bool { return line == "POST /" })
			}
			if len(got) != 1 || got[0] != "GET /works" {
				t.Errorf("the endpoint got %q", got)
			}
		})
	}
	if n := sum(r.metrics(t), "weir_bad_requests_total", `reason="malformed"`); n < 40 {
		t.Errorf("%v bad requests were counted", n)
	}
}

func TestEdgeH2Floods(t *testing.T) {
	block := func(f *frames) []byte { return f.encode(plain("GET", "/flood")) }
	for name, send := range map[string]func(f *frames, i int) error{
		"rapid reset": func(f *frames, i int) error {
			id := uint32(2*i + 1)
			if err := f.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: block(f), EndStream: true, EndHeaders: true}); err != nil {
				return err
			}
			return f.fr.WriteRSTStream(id, http2.ErrCodeCancel)
		},
		"malformed requests": func(f *frames, i int) error {
			return f.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: uint32(2*i + 1), BlockFragment: f.encode(plain("GET", "/", "te", "x")), EndStream: true, EndHeaders: true})
		},
		"ping": func(f *frames, i int) error { return f.fr.WritePing(false, [8]byte{}) },
		"settings": func(f *frames, i int) error {
			return f.fr.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: uint32(i)})
		},
		"window update": func(f *frames, i int) error { return f.fr.WriteWindowUpdate(0, 1) },
		"priority":      func(f *frames, i int) error { return f.fr.WritePriority(1, http2.PriorityParam{StreamDep: 3}) },
		"continuation": func(f *frames, i int) error {
			if i == 0 {
				return f.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block(f)})
			}
			return f.fr.WriteContinuation(1, false, nil)
		},
		"empty data": func(f *frames, i int) error {
			if i == 0 {
				return f.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: f.encode(plain("POST", "/")), EndHeaders: true})
			}
			return f.fr.WriteData(1, false, nil)
		},
		"unknown frames": func(f *frames, i int) error { return f.fr.WriteRawFrame(0xfa, 0, 0, nil) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ep := newEndpoint(t, serveOK)
			r := start(t, setup{endpoints: []string{ep.addr}})
			f := r.frames(t)
			f.until("SETTINGS", func() bool { return f.acks > 0 && len(f.saw) > 0 }) // from now on, who reads does not write
			var code http2.ErrCode
			var failed error
			var read sync.WaitGroup
			read.Go(func() { code, failed = f.closed() })
			sent := 0
			for i := range 100_000 {
				if send(f, i) != nil {
					break
				}
				sent++
			}
			if read.Wait(); failed != nil || code != http2.ErrCodeEnhanceYourCalm {
				t.Errorf("GOAWAY with %v, %v, want ENHANCE_YOUR_CALM", code, failed)
			}
			values := r.metrics(t)
			if n := sum(values, "weir_http2_connection_errors_total", `code="ENHANCE_YOUR_CALM"`); n != 1 {
				t.Errorf("%v connections counted as floods", n)
			}
			// What weir has done for it: the budget of a connection is 2,000.
			if n := sum(values, "weir_http2_streams_total"); n > 1000 {
				t.Errorf("weir has taken %v requests", n)
			}
			if f.pongs+f.acks > 2100 {
				t.Errorf("weir has answered %d times", f.pongs+f.acks)
			}
			eventually(t, "the end of what has begun", func() bool {
				values := r.metrics(t)
				return sum(values, "weir_http2_streams") == 0 && sum(values, "weir_http2_connections") == 0
			})
			r.frames(t).works()
			t.Logf("after %d frames", sent)
		})
	}
}

func TestEdgeH2HeadsTooLarge(t *testing.T) {
	ep := newEndpoint(t, serveOK)
	r := start(t, setup{endpoints: []string{ep.addr}, listener: "limits: {header: 8KiB, uri: 1KiB}"})
	f := r.frames(t)
	for _, c := range []struct {
		list []hpack.HeaderField
		want string
	}{
		{plain("GET", "/"+strings.Repeat("x", 2000)), "414"},
		{plain("GET", "/", "x-a", strings.Repeat("x", 9000)), "431"},
	} {
		if p := f.answer(f.open(c.list, true)); p.status() != c.want || !bytes.Contains(p.body, []byte(`"code":`)) {
			t.Errorf("status %q %q, want %s", p.status(), p.body, c.want)
		}
	}
	// To a call it is said as to one; no client of gRPC would send it. No call is a GET.
	for method, want := range map[string]string{"POST": "200", "GET": "431"} {
		p := f.answer(f.open(plain(method, "/a.B/C", "content-type", "application/grpc", "x-a", strings.Repeat("x", 9000)), true))
		if p.status() != want || (p.value("grpc-status") == "8") != (want == "200") {
			t.Errorf("%s: %+v, want %s", method, p, want)
		}
	}
	f.works()
	// Beyond a few times the limit the block is not even read.
	f.open(plain("GET", "/", "x-a", strings.Repeat("x", 60000)), true)
	if code := f.end(); code == http2.ErrCodeNo {
		t.Errorf("GOAWAY with %v", code)
	}
	if got := ep.got(); len(got) != 1 {
		t.Errorf("the endpoint got %q", got)
	}
}
