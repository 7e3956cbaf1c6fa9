package main

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestNearest(t *testing.T) {
	names := []string{"predict", "predict-v2", "search", "blue", "green"}
	for given, want := range map[string]string{
		"predcit": "predict", "Predict": "predict", "preduct-v2": "predict-v2", "serch": "search", "bleu": "blue", "gren": "green",
		"checkout": "", "x": "", "": "", "gold": "",
		"v2": "", "pre": "", // parts of two or of too little
		"ict-": "predict-v2", "REEN": "green",
		"search": "", // it is there: something else is wrong
	} {
		if got, _ := nearest(given, names); got != want {
			t.Errorf("%q: %q, want %q", given, got, want)
		}
	}
}

func TestSlips(t *testing.T) {
	for _, tt := range []struct {
		a, b string
		want int
	}{
		{"", "", 0}, {"a", "", 1}, {"", "ab", 2}, {"green", "green", 0}, {"gren", "green", 1}, {"greeen", "green", 1},
		{"grene", "green", 1}, {"brown", "green", 3}, {"127.0.0.1:8001", "127.0.0.1:8010", 1},
	} {
		if got := slips(tt.a, tt.b); got != tt.want {
			t.Errorf("%q, %q: %d, want %d", tt.a, tt.b, got, tt.want)
		}
	}
}

// TestAnswers is what the command line makes of answers that a weir, or something else, may give.
func TestAnswers(t *testing.T) {
	const route = `{"name":"predict","generation":7,"variants":[{"pool":"blue","weight":1}]}`
	for _, tt := range []struct {
		name           string
		status         int
		header         http.Header
		body           string
		exit           int
		stdout, stderr string
	}{
		{
			"not saved", 200, http.Header{"Warning": {`199 weir "in force, but \"x.json\" cannot be written"`}}, route,
			0, "predict: blue=1 (generation 7)\n", `weir: warning: in force, but "x.json" cannot be written` + "\n",
		},
		{
			"no token", 401, nil, `{"error":"a token is required: send one as Authorization: Bearer TOKEN","code":"unauthorized"}`,
			1, "", "weir: a token is required\nweir: Name a file with a token with --token-file, or give the token in WEIR_TOKEN\n",
		},
		{
			"may only read", 403, nil, `{"error":"the token \"ci\" may only read","code":"read_only"}`,
			1, "", "weir: the token \"ci\" may only read\nweir: Give a token that may write with --token-file or WEIR_TOKEN\n",
		},
		{
			"needs force", 409, nil, `{"error":"route predict would have no usable endpoint any more; force does it all the same","code":"no_healthy_endpoint"}`,
			1, "", "weir: route predict would have no usable endpoint any more\nweir: Nothing was changed. Use --force to do it all the same\n",
		},
		{
			"another conflict", 409, nil, `{"error":"route predict has no ramp under way","code":"no_ramp"}`,
			1, "", "weir: route predict has no ramp under way\n",
		},
		{
			"lost a race", 412, nil, `{"error":"it is at generation 8 now","code":"precondition_failed"}`,
			1, "", "weir: it is at generation 8 now\nweir: Look at what it is now, then give that generation with --if-match\n",
		},
		{
			"an older weir", 404, nil, `{"error":"no such path","code":"not_found"}`,
			1, "", "weir: no such path\nweir: Is another version of weir running there? \"weir status\" says which\n",
		},
		{
			"the proxy", 404, nil, `{"error":"no route matches this request","code":"no_route","request_id":"x"}`,
			1, "", "weir: no route matches this request\nweir: That is how weir's proxy answers: set --admin or WEIR_ADMIN to the address of the admin API (admin.address)\n",
		},
		{
			"another program", 200, http.Header{"Content-Type": {"text/html"}}, "<html>",
			1, "", "weir: ADMIN does not answer like weir's admin API (200 OK, \"text/html\"): set --admin or WEIR_ADMIN to its address\n",
		},
		{
			"no words", 500, nil, `{}`,
			1, "", "weir: ADMIN/api/v1/routes/predict/weights answered 500 Internal Server Error\n",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var ifMatch string
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				ifMatch = r.Header.Get("If-Match")
				w.Header().Set("Content-Type", "application/json")
				for name, values := range tt.header {
					w.Header()[name] = values
				}
				w.WriteHeader(tt.status)
				_, _ = w.Write([]byte(tt.body)) // a client that went away fails the test by itself
			}))
			defer server.Close()
			var stdout, stderr bytes.Buffer
			c := newCLI(&stdout, &stderr, func(string) string { return "" })
			exit := c.run([]string{"shift", "predict", "blue=1", "--if-match", "6", "--admin", server.URL})
			said := strings.ReplaceAll(stderr.String(), server.URL, "ADMIN")
			if exit != tt.exit || stdout.String() != tt.stdout || said != tt.stderr {
				t.Errorf("exit %d, stdout %q, stderr %q", exit, stdout.String(), said)
			}
			if ifMatch != `"6"` {
				t.Errorf("If-Match: %s", ifMatch)
			}
		})
	}
}
