package proxy_test

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"weir/backend/inference"
	"weir/config"
)

// inferring is the body of a call that asks a model.
func inferring(t *testing.T, name, version string, payload int) string {
	t.Helper()
	b, err := proto.Marshal(&inference.ModelInferRequest{ModelName: name, ModelVersion: version, Id: "1", RawInputContents: [][]byte{make([]byte, payload)}})
	if err != nil {
		t.Fatal(err)
	}
	return string(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(b)))) + string(b)
}

// posting is a request with a body, in chunks of that size, or, with 0, in one piece.
func posting(path, lines, body string, chunk int) string {
	head := "POST " + path + " HTTP/1.1\r\nHost: h\r\n" + lines
	if chunk == 0 {
		return fmt.Sprintf("%sContent-Length: %d\r\n\r\n%s", head, len(body), body)
	}
	var b strings.Builder
	b.WriteString(head + "Transfer-Encoding: chunked\r\n\r\n")
	for len(body) > 0 {
		n := min(chunk, len(body))
		fmt.Fprintf(&b, "%x\r\n%s\r\n", n, body[:n])
		body = body[n:]
	}
	return b.String() + "0\r\n\r\n"
}

const asCall, asJSON = "Content-Type: application/grpc\r\n", "Content-Type: application/json; charset=utf-8\r\n"

// models is a proxy whose routes are told apart by model; each answer names its route.
func models(t *testing.T, ep *endpoint, change func(*config.Config)) *running {
	t.Helper()
	return start(t, setup{endpoints: []string{ep.addr}, change: func(cfg *config.Config) {
		all := cfg.Routes[0]
		cfg.Routes = nil
		add := func(name string, m config.Match) {
			r := all
			r.Name, r.Match = name, m
			r.Headers.Response.Set = []config.Header{{Name: "X-Route", Value: name}}
			cfg.Routes = append(cfg.Routes, r)
		}
		call := &config.Method{Service: "inference.GRPCInferenceService"}
		add("fashion-2", config.Match{Model: "fashion", ModelVersion: "2"})
		add("fashion", config.Match{Model: "fashion"})
		add("digits", config.Match{Model: "digits"})
		add("call-fashion-2", config.Match{GRPC: call, Model: "fashion", ModelVersion: "2"})
		add("call-fashion", config.Match{GRPC: call, Model: "fashion"})
		add("ready", config.Match{GRPC: &config.Method{Service: call.Service, Method: "ModelReady"}})
		add("calls", config.Match{GRPC: call})
		add("llama", config.Match{PathPrefix: "/v1", Model: "meta/llama"})
		add("kserve", config.Match{PathPrefix: "/openai/v1", Model: "meta/llama"})
		add("rest", config.Match{})
		if change != nil {
			change(cfg)
		}
	}})
}

// TestEdgeModel: routes by the model that a request names, in its path, its metadata, its first message or its JSON.
func TestEdgeModel(t *testing.T) {
	ep := newEndpoint(t, serveOK)
	r := models(t, ep, nil)
	v2 := "/inference.GRPCInferenceService/"
	long := strings.Repeat("x", 200<<10)
	for _, c := range []struct{ path, lines, body, want string }{
		{"/v2/models/fashion/infer", "", "{}", "fashion"},
		{"/v2/models/fashion/versions/2/infer", "", "{}", "fashion-2"},
		{"/v2/models/fashion/versions/2", "", "{}", "fashion-2"},
		{"/v2/models/fashion/versions/3/infer", "", "{}", "fashion"},
		{"/v2/models/f%61shion", "", "{}", "fashion"},
		{"/v2/models/fashions/infer", "", "{}", "rest"},
		{"/v2/models//fashion", "", "{}", "fashion"},
		{"/v2/models/", "", "{}", "rest"},
		{"/v2/models/digits/ready", "", "{}", "digits"},
		{"/x/v2/models/digits/ready", "", "{}", "rest"},
		{v2 + "ModelInfer", asCall, inferring(t, "fashion", "2", 10), "call-fashion-2"},
		{v2 + "ModelInfer", asCall, inferring(t, "fashion", "", 10), "call-fashion"},
		{v2 + "ModelInfer", asCall, inferring(t, "fashion", "9", 3<<20), "call-fashion"},
		{v2 + "ModelStreamInfer", asCall, inferring(t, "fashion", "2", 10) + inferring(t, "digits", "2", 10), "call-fashion-2"},
		{v2 + "ModelInfer", asCall, inferring(t, "digits", "2", 10), "calls"},
		{v2 + "ModelInfer", asCall, "", "calls"},
		{v2 + "ModelInfer", asCall, "\x01" + inferring(t, "fashion", "2", 10)[1:], "calls"},
		{v2 + "ModelInfer", asCall, "what?", "calls"},
		{v2 + "ModelReady", asCall, inferring(t, "fashion", "2", 10), "ready"},
		{v2 + "ServerLive", asCall, inferring(t, "fashion", "2", 10), "calls"},
		{v2 + "ModelInfer", asCall + "model-name: fashion\r\nMODEL-VERSION: 2\r\n", inferring(t, "digits", "", 10), "call-fashion-2"},
		{"/my.Service/Any", asCall + "model-name: digits\r\n", "", "digits"},
		{v2 + "ModelInfer", asJSON, inferring(t, "fashion", "2", 10), "rest"},
		{"/predict", "model-name: digits\r\n", "", "rest"},
		{"/v1/chat/completions", asJSON, `{"messages":[],"model":"meta/llama"}`, "llama"},
		{"/openai/v1/chat/completions", asJSON, `{"model":"meta/llama"}`, "kserve"},
		{"/v1/chat/completions", asJSON, `{"messages":"` + long + `","model":"meta/llama"}`, "llama"},
		{"/v1/chat/completions", asJSON, `{"messages":"` + strings.Repeat(long, 6) + `","model":"meta/llama"}`, "rest"},
		{"/v1/chat/completions", asJSON, `{"model":"meta/llama","messages":"` + strings.Repeat(long, 6) + `"}`, "llama"},
		{"/v1/chat/completions", asJSON, `{"model":"other"}`, "rest"},
		{"/v1/chat/completions", asJSON, `{"model":7}`, "rest"},
		{"/v1/chat/completions", asJSON, `not JSON`, "rest"},
		{"/v1/chat/completions", "", `{"model":"meta/llama"}`, "rest"},
		{"/v1/completions", asJSON, `{"model":"fashion"}`, "fashion"},
	} {
		for _, chunk := range []int{0, 1000, 70_000, 3} {
			if chunk == 3 && len(c.body) > 10_000 {
				continue
			}
			cl := r.dial(t)
			// The next request comes right behind it.
			cl.send(posting(c.path, c.lines, c.body, chunk) + getting("/next", ""))
			m := cl.answer("POST")
			if m.status() != 200 || m.get("X-Route") != c.want {
				t.Errorf("%s %q %.60q in chunks of %d: %q of %s, want %s; %s", c.path, c.lines, c.body, chunk, m.start, m.get("X-Route"), c.want, m.body)
				continue
			}
			if next := cl.answer("GET"); next.status() != 200 || next.get("X-Route") != "rest" {
				t.Errorf("%s: the next one: %q of %s", c.path, next.start, next.get("X-Route"))
			}
			ep.mu.Lock()
			for _, got := range ep.requests {
				if got.method() == "POST" && string(got.body) != c.body {
					t.Errorf("%s %.60q in chunks of %d: the endpoint gets %d bytes of %d", c.path, c.body, chunk, len(got.body), len(c.body))
				}
			}
			ep.requests = nil
			ep.mu.Unlock()
		}
	}
	if s, _ := r.Route("call-fashion-2"); s.Match != "/inference.GRPCInferenceService/* grpc model fashion/2" {
		t.Errorf("match %q", s.Match)
	}
}

// TestEdgeModelPiecemeal: what is looked for may come late, and only that is waited for.
func TestEdgeModelPiecemeal(t *testing.T) {
	ep := newEndpoint(t, serveOK)
	r := models(t, ep, nil)
	body := inferring(t, "fashion", "2", 100_000)
	cl := r.dial(t)
	text := posting("/inference.GRPCInferenceService/ModelInfer", asCall+"Expect: 100-continue\r\n", body, 0)
	at := strings.Index(text, "\r\n\r\n") + 4
	cl.send(text[:at])
	if m, err := cl.readHead(); err != nil || m.status() != 100 {
		t.Fatalf("%+v, %v", m, err)
	}
	for i := range 30 {
		cl.send(text[at+i : at+i+1])
		time.Sleep(time.Millisecond)
	}
	eventually(t, "the request, whose model is known", func() bool { _, _, partial := ep.counts(); return partial == 1 })
	cl.send(text[at+30:])
	if m := cl.answer("POST"); m.get("X-Route") != "call-fashion-2" || string(ep.last(t).body) != body {
		t.Errorf("%+v", m)
	}
}

// TestEdgeModelBarred: of who is sure to be refused, whatever the model, no body is read.
func TestEdgeModelBarred(t *testing.T) {
	ep := newEndpoint(t, serveOK)
	keys := file(t, "keys", "team-a:alpha-key-0123456789\n")
	r := models(t, ep, func(cfg *config.Config) {
		guarded := func(name string) *config.Auth {
			return &config.Auth{APIKey: &config.APIKeyAuth{File: keys, Header: name}}
		}
		elsewhere := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
		for i := range cfg.Routes {
			switch route := &cfg.Routes[i]; route.Name {
			case "llama", "digits":
				route.Auth = guarded("X-Key")
			case "fashion", "fashion-2", "call-fashion", "call-fashion-2":
				route.Allow = elsewhere
			case "calls":
				route.Match.Model, route.Allow = "other", elsewhere
			case "rest":
				route.Auth = guarded("X-Other-Key")
			}
		}
	})
	const infer, chat = "/inference.GRPCInferenceService/ModelInfer", "/v1/chat/completions"
	const key = "X-Key: alpha-key-0123456789\r\n"
	for _, c := range []struct {
		path, lines string
		status      int // 100: the body is asked for
		challenge   string
	}{
		{chat, "", 401, "X-Key"},
		{chat, "X-Key: wrong\r\n", 401, "X-Key"},
		{chat, key, 100, ""},
		{chat, "X-Other-Key: alpha-key-0123456789\r\n", 100, ""},
	} {
		cl := r.dial(t)
		cl.send("POST " + c.path + " HTTP/1.1\r\nHost: h\r\n" + asJSON + c.lines + "Content-Length: 100000\r\nExpect: 100-continue\r\n\r\n")
		m, err := cl.readHead()
		if err != nil || m.status() != c.status || !strings.Contains(m.get("WWW-Authenticate"), c.challenge) {
			t.Errorf("%s with %q: %+v, %v; want %d", c.path, c.lines, m, err, c.status)
		}
	}
	// Which of them it is, the body says: the wrong key for that one is none.
	cl := r.dial(t)
	cl.send(posting(chat, asJSON+key, `{"model":"other"}`, 0))
	cl.refused(cl.answer("POST"), 401)
	cl = r.dial(t)
	cl.send(posting(chat, asJSON+key, `{"model":"meta/llama"}`, 0))
	if m := cl.answer("POST"); m.status() != 200 || m.get("X-Route") != "llama" {
		t.Errorf("%+v", m)
	}
	// By its address, and where that is no reason, by its credentials.
	cl = r.dial(t)
	cl.send("POST " + infer + " HTTP/1.1\r\nHost: h\r\n" + asCall + "Content-Length: 100000\r\n\r\n")
	own(t, cl.answer("POST"), 7)
	if n := len(ep.got()); n != 1 {
		t.Errorf("the endpoint got %d requests, want 1", n)
	}
}

// TestEdgeModelRefused: a body that does not come, or is none.
func TestEdgeModelRefused(t *testing.T) {
	ep := newEndpoint(t, serveOK)
	r := models(t, ep, func(cfg *config.Config) { cfg.Listeners[0].Timeouts.Body = 300 * time.Millisecond })
	path := "/inference.GRPCInferenceService/ModelInfer"
	c := r.dial(t)
	c.send("POST " + path + " HTTP/1.1\r\nHost: h\r\n" + asCall + "Content-Length: 100\r\n\r\n\x00\x00")
	own(t, c.answer("POST"), 4)
	c.closed()
	c = r.dial(t) // never late, never done
	c.send("POST /v1/x HTTP/1.1\r\nHost: h\r\n" + asJSON + "Content-Length: 100000\r\n\r\n")
	stop := make(chan struct{})
	defer close(stop)
	go func(c *client) {
		for {
			select {
			case <-stop:
				return
			case <-time.After(50 * time.Millisecond):
				c.send(" ")
			}
		}
	}(c)
	c.refused(c.answer("POST"), 408)
	c = r.dial(t)
	c.send("POST /v1/x HTTP/1.1\r\nHost: h\r\n" + asJSON + "Transfer-Encoding: chunked\r\n\r\nxyz\r\n")
	c.refused(c.answer("POST"), 400)
	c = r.dial(t)
	c.send("POST /v1/x HTTP/1.1\r\nHost: h\r\n" + asJSON + "Content-Length: 1000\r\n\r\n{")
	c.Close()
	// Framing many times as long as its data is an attack, also on who looks ahead.
	c = r.dial(t)
	c.send("POST /v1/x HTTP/1.1\r\nHost: h\r\n" + asJSON + "Transfer-Encoding: chunked\r\n\r\n" + strings.Repeat("1;"+strings.Repeat("e", 1000)+"\r\nx\r\n", 1200) + "0\r\n\r\n")
	c.refused(c.answer("POST"), 400)
	if got := ep.got(); len(got) != 0 {
		t.Errorf("the endpoint got %v", got)
	}
	eventually(t, "the account", func() bool { return sum(r.metrics(t), "weir_requests_total", `code="499"`) == 1 })
}
