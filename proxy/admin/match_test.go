package admin

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"weir/proxy"
)

func TestParseIfMatch(t *testing.T) {
	for text, want := range map[string]string{ // which of 1, 7 and 71 match; - is malformed
		`"7"`:                    "7",
		` "7" `:                  "7",
		`*`:                      "1 7 71",
		"\t* ":                   "1 7 71",
		`"1","7"`:                "1 7",
		`"1" ,	"7"`:              "1 7",
		`,, "1",,"7",`:           "1 7",
		`W/"7"`:                  "",
		`W/"7", "71"`:            "71",
		`"07"`:                   "",
		`"7a"`:                   "",
		`""`:                     "",
		`"+7"`:                   "",
		`"ü"`:                    "",
		`"99999999999999999999"`: "",
		``:                       "-",
		` `:                      "-",
		`,`:                      "-",
		`7`:                      "-",
		`"7`:                     "-",
		`7"`:                     "-",
		`"7""1"`:                 "-",
		`"7" "1"`:                "-",
		`"7"x`:                   "-",
		`"7";q=1`:                "-",
		`*, "7"`:                 "-",
		`"7", *`:                 "-",
		`**`:                     "-",
		`w/"7"`:                  "-",
		`W/7`:                    "-",
		`W/`:                     "-",
		`W/ "7"`:                 "-",
		`"a b"`:                  "-",
		`'7'`:                    "-",
	} {
		e, err := parseIfMatch(text)
		got := "-"
		if err == nil {
			var matched []string
			for _, g := range []uint64{1, 7, 71} {
				if e(g) {
					matched = append(matched, fmt.Sprint(g))
				}
			}
			got = strings.Join(matched, " ")
		}
		if got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}

// TestIfMatch sends each write with the ETag of what it changes, and with the one before that.
func TestIfMatch(t *testing.T) {
	for _, tt := range []struct{ name, method, path, body, read string }{
		{"weights", "PUT", predict + "/weights", `{"weights":{"blue":3,"green":1}}`, predict},
		{"ramp", "PUT", predict + "/weights", `{"weights":{"blue":3,"green":1},"ramp":"1h"}`, predict},
		{"end of a ramp", "DELETE", predict + "/ramp", ``, predict},
		{"switch", "POST", predict + "/switch", `{"to":"green"}`, predict},
		{"switch back", "POST", predict + "/switch", `{"back":true}`, predict},
		{"A/B", "POST", "/ab/config", `{"model_a_percentage":30}`, predict},
		{"drain", "POST", "/api/v1/pools/blue/drain", ``, "/api/v1/pools/blue"},
		{"undrain", "POST", "/api/v1/pools/blue/undrain", ``, "/api/v1/pools/blue"},
		{"drain of an endpoint", "POST", "/api/v1/pools/blue/endpoints/127.0.0.1:8001/drain", ``, "/api/v1/pools/blue"},
		{"undrain of an endpoint", "POST", "/api/v1/pools/blue/endpoints/127.0.0.1:8001/undrain", ``, "/api/v1/pools/blue"},
		{"rollback", "POST", "/api/v1/rollback", `{"to":1}`, "/api/v1/status"},
		{"reload", "POST", "/api/v1/reload", ``, "/api/v1/status"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a := start(t)
			// Something of everything has been changed, last of all what is not asked about.
			must[proxy.RouteStatus](a, "POST", predict+"/switch", `{"to":"green"}`)
			must[proxy.PoolStatus](a, "POST", "/api/v1/pools/blue/endpoints/127.0.0.1:8001/drain", ``)
			must[proxy.RouteStatus](a, "PUT", predict+"/weights", `{"weights":{"blue":0,"green":9},"ramp":"9h"}`)
			must[proxy.PoolStatus](a, "POST", "/api/v1/pools/green/drain", `{"force":true}`)
			must[proxy.PoolStatus](a, "POST", "/api/v1/pools/green/undrain", ``)
			a.set(func() {
				a.reload = func(by string) (uint64, []string, error) {
					return a.Apply(parse(t, strings.Replace(site, "version: v1", "version: v1.1", 1)), proxy.Cause{By: by})
				}
			})
			state, _ := do(t, a.url, call{method: "GET", path: tt.read})
			etag := state.Header.Get("ETag")
			before := a.Generation()
			for _, bad := range []struct {
				tag    string
				status int
				code   string
			}{{`"1"`, 412, "precondition_failed"}, {"W/" + etag, 412, "precondition_failed"}, {strings.Trim(etag, `"`), 400, "bad_if_match"}, {"", 400, "bad_if_match"}} {
				resp, body := a.write(tt.method, tt.path, tt.body, "If-Match", bad.tag)
				checkFailure(t, resp, body, bad.status, bad.code, "")
				if bad.status == 412 && !strings.Contains(body, "generation "+strings.Trim(etag, `"`)) {
					t.Errorf("it does not say which generation is in force: %s", body)
				}
			}
			if g := a.Generation(); g != before {
				t.Fatalf("refused, and at generation %d after %d", g, before)
			}
			resp, body := a.write(tt.method, tt.path, tt.body, "If-Match", `"1", `+etag)
			state, _ = do(t, a.url, call{method: "GET", path: tt.read})
			if now := state.Header.Get("ETag"); resp.StatusCode != 200 || resp.Header.Get("ETag") != now {
				t.Errorf("%d %s, ETag %s, then %s", resp.StatusCode, body, resp.Header.Get("ETag"), now)
			}
			if resp, body := a.write(tt.method, tt.path, tt.body, "If-Match", "*"); resp.StatusCode == 412 {
				t.Errorf("* does not match: %s", body)
			}
		})
	}
}

func TestIfMatchOfWhatIsNotThere(t *testing.T) {
	a := start(t)
	resp, body := a.write("PUT", "/api/v1/routes/nope/weights", `{"weights":{"blue":1}}`, "If-Match", `"1"`)
	checkFailure(t, resp, body, 404, "unknown_route", "nope")
}

// TestOneOfManyWins has many clients change what they have read.
func TestOneOfManyWins(t *testing.T) {
	a := start(t)
	for round := range 5 {
		resp, _ := do(t, a.url, call{method: "GET", path: predict})
		etag := resp.Header.Get("ETag")
		var won, lost atomic.Int32
		var clients sync.WaitGroup
		for i := range 16 {
			clients.Go(func() {
				body := fmt.Sprintf(`{"weights":{"blue":%d,"green":%d}}`, i+1, round+1000)
				switch resp, text := a.write(http.MethodPut, predict+"/weights", body, "If-Match", etag); resp.StatusCode {
				case 200:
					won.Add(1)
				case 412:
					lost.Add(1)
				default:
					t.Errorf("%d %s", resp.StatusCode, text)
				}
			})
		}
		clients.Wait()
		if won.Load() != 1 || lost.Load() != 15 {
			t.Errorf("round %d: %d won, %d lost", round, won.Load(), lost.Load())
		}
	}
}
