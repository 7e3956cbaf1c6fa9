package proxy

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"testing"
	"time"

	"weir/balancer"
	"weir/config"
)

func TestInferReadsTheAnswer(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if r.Method != http.MethodPost || r.UserAgent() != "weir-probe" || r.Header.Get("Content-Type") != "application/json" || string(body) != `{"features":[1]}` {
			t.Errorf("%s by %q: %v %q", r.Method, r.UserAgent(), r.Header, body)
		}
		switch r.URL.Path {
		case "/slow":
			time.Sleep(50 * time.Millisecond)
			fallthrough
		case "/predict":
			_, _ = io.WriteString(w, `{"prediction":4,"scores":[0.1,0.901],"zero":0.1}`)
		case "/bad":
			_, _ = io.WriteString(w, `NaN`)
		default:
			w.WriteHeader(http.StatusInternalServerError)
		}
	}))
	defer s.Close()
	is := func(path, value string) []config.Assertion { return []config.Assertion{{Path: path, Value: value}} }
	for _, test := range []struct {
		name string
		i    config.Inference
		want string
	}{
		{"a status", config.Inference{Path: "/predict"}, `^$`},
		{"an answer", config.Inference{Path: "/predict", JSON: is("prediction", "4")}, `^$`},
		{"another answer", config.Inference{Path: "/predict", JSON: is("prediction", "3")}, `^inference: prediction is 4; want 3$`},
		{"within the tolerance", config.Inference{Path: "/predict", JSON: is("scores.1", "0.9"), Tolerance: 0.01}, `^$`},
		{"beyond it", config.Inference{Path: "/predict", JSON: is("scores.1", "0.9"), Tolerance: 0.001}, `^inference: scores.1 is 0.901; want 0.9$`},
		{"relative to zero", config.Inference{Path: "/predict", JSON: is("zero", "0"), Tolerance: 0.5}, `^inference: zero is 0.1; want 0$`},
		{"no JSON", config.Inference{Path: "/bad", JSON: is("prediction", "4")}, `^inference: the body of the answer is no JSON$`},
		{"a failure", config.Inference{Path: "/none"}, `^inference: POST /none answered 500, want 200-299$`},
		{"slow", config.Inference{Path: "/slow", MaxLatency: 20 * time.Millisecond}, `^inference took \d{2,} ms; at most 20 ms$`},
		{"slow enough", config.Inference{Path: "/slow", MaxLatency: 5 * time.Second}, `^$`},
	} {
		t.Run(test.name, func(t *testing.T) {
			test.i.Body = `{"features":[1]}`
			ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
			defer cancel()
			e := &balancer.Endpoint{Address: s.Listener.Addr().String()}
			got := ""
			if err := infer(ctx, e, tcpAddr(e.Address), config.Probe{Status: config.StatusRange{Low: 200, High: 299}, Inference: &test.i}); err != nil {
				got = err.Error()
			}
			if !regexp.MustCompile(test.want).MatchString(got) {
				t.Errorf("%q, want %s", got, test.want)
			}
		})
	}
}
