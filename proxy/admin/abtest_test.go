package admin

import (
	"strings"
	"testing"

	"weir/internal/state"
)

func TestABConfig(t *testing.T) {
	a := start(t)
	resp, body := a.write("POST", "/ab/config", `{"model_a_percentage":30}`)
	want := `{"status":"updated","config":{"A":{"endpoint":"http://127.0.0.1:8001","traffic":30},"B":{"endpoint":"http://127.0.0.1:8002","traffic":70}}}` + "\n"
	if resp.StatusCode != 200 || body != want || resp.Header.Get("ETag") != `"2"` {
		t.Errorf("%d %s, ETag %s", resp.StatusCode, body, resp.Header.Get("ETag"))
	}
	h := a.lastChange()
	if h.Kind != state.KindWeights || h.Reason != "POST /ab/config" || h.By != "api 127.0.0.1" || a.weights() != "blue=30 green=70" {
		t.Errorf("%+v, %s", h, a.weights())
	}
	for body, weights := range map[string]string{
		`{"model_a_percentage":0}`:    "blue=0 green=100",
		`{"model_a_percentage":100}`:  "blue=100 green=0",
		`{"model_a_percentage":12.5}`: "blue=12.5 green=87.5",
		`{"model_a_percentage":70.1}`: "blue=70.1 green=29.9",
	} {
		must[abUpdated](a, "POST", "/ab/config?route=predict", body)
		if got := a.weights(); got != weights {
			t.Errorf("%s: %s, want %s", body, got, weights)
		}
	}
}

func TestABConfigRefused(t *testing.T) {
	const good = `{"model_a_percentage":30}`
	a := start(t)
	refused := func(path, body string, status int, code, says string) {
		t.Helper()
		resp, text := a.write("POST", path, body)
		checkFailure(t, resp, text, status, code, says)
	}
	refused("/ab/config", `{"model_a_percentage":-0.1}`, 422, "invalid_percentage", "0 to 100")
	refused("/ab/config", `{"model_a_percentage":100.1}`, 422, "invalid_percentage", "100.1")
	refused("/ab/config", `{"model_a_percentage":"30"}`, 400, "bad_request", "string")
	refused("/ab/config", `{"model_a_percentage":null}`, 400, "bad_request", "null")
	refused("/ab/config", `{}`, 400, "bad_request", "missing")
	refused("/ab/config", `{"model_b_percentage":30}`, 400, "bad_request", "model_b_percentage")
	refused("/ab/config", ``, 415, "unsupported_media_type", "application/json")
	refused("/ab/config?route=nope", good, 404, "unknown_route", `"nope" (have predict, rank)`)
	refused("/ab/config?route=rank", good, 409, "no_ab_route", "rank has 1 variants, not two (routes with two: predict)")

	a.apply(strings.Replace(site, "split: {green: 1}", "split: {green: 1, blue: 1}", 1))
	refused("/ab/config", good, 409, "ambiguous_route", "predict, rank")
	got, _ := must[abUpdated](a, "POST", "/ab/config?route=rank", good)
	if got.Config.A.Endpoint != "http://127.0.0.1:8002" || got.Config.A.Traffic != 30 { // in the order of the file
		t.Errorf("%+v", got)
	}
	a.apply(strings.Replace(site, "split: {blue: 90, green: 10}", "split: {blue: 1}", 1))
	refused("/ab/config", good, 409, "no_ab_route", "no route has two")
}
