package bench

import (
	"encoding/json"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

func filled(t *testing.T, users int, text string) *Template {
	t.Helper()
	target, err := NewTemplate(Request{URL: "http://127.0.0.1:1/p", Users: users, Seed: 7}, text)
	if err != nil {
		t.Fatal(err)
	}
	return target
}

// body splits a request into head and body, and fails the test when its length is not as told.
func body(t *testing.T, request []byte) (head, body string) {
	t.Helper()
	head, body, found := strings.Cut(string(request), "\r\n\r\n")
	m := regexp.MustCompile(`\r\nContent-Length: (\d+)`).FindStringSubmatch(head)
	if !found || m == nil || m[1] != strconv.Itoa(len(body)) {
		t.Fatalf("request %q; want a head with the length of the body, %d", request, len(body))
	}
	return head, body
}

func TestTemplateFillsIn(t *testing.T) {
	for _, tt := range []struct{ text, want string }{
		{"", `^$`},
		{`{"a":{"b":1}}`, `^\{"a":\{"b":1\}\}$`},
		{"{{seq}}", `^12$`},
		{"<{{ user }}>", `^<user-0000\d\d>$`},
		{"{{int 5 5}}", `^5$`},
		{"{{int -2 7}} {{int 0 2147483647}}", `^-?\d \d+$`},
		{"{{float 0.5 0.5}}", `^0\.500000$`},
		{"{{floats 3 -1 1}}", `^-?[01]\.\d{6},-?[01]\.\d{6},-?[01]\.\d{6}$`},
		{"{{pick a bc}}.", `^(a|bc)\.$`},
		{"{{uuid}}", `^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`},
	} {
		request, hit := filled(t, 50, tt.text).Append([]byte("before"), 12)
		if !strings.HasPrefix(string(request), "beforePOST /p ") {
			t.Fatalf("%q: the request is not appended: %q", tt.text, request)
		}
		head, got := body(t, request)
		if !regexp.MustCompile(tt.want).MatchString(got) {
			t.Errorf("%q is filled in as %q, want %s", tt.text, got, tt.want)
		}
		if user := string(appendUser(nil, hit.User)); !strings.Contains(head, UserHeader+": "+user) || strings.Contains(got, "user-") && !strings.Contains(got, user) {
			t.Errorf("%q: head %q and body %q are not for %s", tt.text, head, got, user)
		}
	}
}

// Values differ from request to request and from place to place, and are the same every time.
func TestTemplateIsAFunctionOfTheNumber(t *testing.T) {
	target := filled(t, 0, "{{int 0 1000000}}|{{int 0 1000000}}|{{uuid}}|{{floats 2 0 1}}")
	seen := map[string]bool{}
	for n := range uint64(100) {
		request, _ := target.Append(nil, n)
		again, _ := target.Append(nil, n)
		if string(request) != string(again) {
			t.Fatalf("request %d is %q and %q", n, request, again)
		}
		_, got := body(t, request)
		for _, part := range strings.FieldsFunc(got, func(r rune) bool { return r == '|' || r == ',' }) {
			seen[part] = true
		}
	}
	if len(seen) < 490 { // a few of the whole numbers may meet
		t.Errorf("%d different values in 100 requests of 5", len(seen))
	}
}

func TestTemplateRangesAreFilled(t *testing.T) {
	target := filled(t, 0, "[{{int -1 1}},{{float 10 20}}]")
	counts, lowest, highest := map[float64]int{}, 20.0, 10.0
	for n := range uint64(3000) {
		request, _ := target.Append(nil, n)
		var got [2]float64
		if _, b := body(t, request); json.Unmarshal([]byte(b), &got) != nil {
			t.Fatalf("body %q is no JSON", b)
		}
		counts[got[0]]++
		lowest, highest = min(lowest, got[1]), max(highest, got[1])
	}
	if len(counts) != 3 || counts[-1] < 850 || counts[0] < 850 || counts[1] < 850 {
		t.Errorf("whole numbers %v, want -1, 0 and 1 about 1000 times each", counts)
	}
	if lowest < 10 || lowest > 10.1 || highest > 20 || highest < 19.9 {
		t.Errorf("numbers from %v to %v, want 10 to 20", lowest, highest)
	}
}

func TestTemplateRefuses(t *testing.T) {
	for text, want := range map[string]string{
		"{{seq":                 "not closed",
		"{{}}":                  "is empty",
		"{{now}}":               "must be seq",
		"{{seq 1}}":             "must be seq",
		"{{int 1}}":             "must be seq",
		"{{int 2 1}}":           "lower one first",
		"{{int 0.5 1}}":         "whole numbers",
		"{{int 0 99999999999}}": "32 bits",
		"{{float 0 NaN}}":       "two numbers",
		"{{float 1 0}}":         "lower one first",
		"{{floats 0 0 1}}":      "how many",
		"{{pick}}":              "must be seq",
		"{{user}}":              "needs users",
	} {
		if _, err := NewTemplate(Request{URL: "http://127.0.0.1"}, text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: error %v, want %q", text, err, want)
		}
	}
}
