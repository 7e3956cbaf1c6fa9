package config

import (
	"slices"
	"strings"
	"testing"
)

const diffBase = `
listeners: [{address: "127.0.0.1:8080"}, {address: ":8081"}]
trusted_proxies: [10.0.0.0/8, 192.0.2.7]
pools:
  blue: {version: v1.0.0, endpoints: ["10.0.0.1:80", {address: "10.0.0.2:80", weight: 2, capacity: 200/s}]}
  green: {endpoints: ["10.0.1.1:80"], probe: off}
  "v1.2": {endpoints: ["10.0.2.1:80"]}
routes:
  - {name: predict, match: {path: /predict, methods: [POST], headers: {X-Tenant: acme}}, split: {blue: 90, green: 10}, affinity: {key: "header:X-User"}}
  - {name: v1, match: {path_regex: "^/v1/"}, split: {blue: 1}}
  - {name: any, match: {path_regex: "^/v"}, split: {green: 1}}
  - {name: models, match: {path_prefix: /models}, split: {v1.2: 1}}
`

func parseDiff(tb testing.TB, text string) *Config {
	tb.Helper()
	c, err := Parse("", []byte(text))
	if err != nil {
		tb.Fatal(err)
	}
	return c
}

func said(differences []Difference) (l []string) {
	for _, d := range differences {
		l = append(l, d.String())
	}
	return l
}

// TestDiff edits the base by replacements, in pairs.
func TestDiff(t *testing.T) {
	base := parseDiff(t, diffBase)
	for _, c := range []struct {
		name  string
		edits []string
		want  []string
	}{
		{"a remark", []string{"\nlisteners", "\n# weir\nlisteners"}, nil},
		{"defaults written out", []string{
			`{address: ":8081"}`, `{address: ":8081", timeouts: {header: 10000ms}, limits: {header: 65536}}`,
			`["10.0.0.1:80",`, `[{address: "10.0.0.1:80", weight: 1.0},`,
			"version: v1.0.0", "version: v1.0.0, policy: prequal, probe: {interval: 5s, timeout: 1s}",
			`"header:X-User"`, `"header:X-User", fallback: random, salt: predict`, "\npools", "\nlog: {level: info}\npools",
		}, nil},
		{"a value", []string{"headers: {X-Tenant: acme}}", "headers: {X-Tenant: acme}}, timeouts: {total: 100s}"},
			[]string{"routes.predict.timeouts.total: 5m → 1m40s"}},
		{"weights", []string{"blue: 90, green: 10", "blue: 50, green: 50.5"},
			[]string{"routes.predict.split.blue: 90 → 50", "routes.predict.split.green: 10 → 50.5"}},
		{"the order of variants", []string{"blue: 90, green: 10", "green: 10, blue: 90"}, []string{"routes.predict.split: order changed"}},
		{"a variant more", []string{"blue: 90, green: 10", "v1.2: 1, blue: 90, green: 10"}, []string{`routes.predict.split["v1.2"]: added (1)`}},
		{"a variant less", []string{"blue: 90, green: 10", "green: 10"}, []string{"routes.predict.split.blue: removed (90)"}},
		{"endpoints", []string{`["10.0.0.1:80", {address: "10.0.0.2:80", weight: 2, capacity: 200/s}]`, `[{address: "10.0.0.2:80", weight: 0.5}, "10.0.0.3:80"]`}, []string{
			`pools.blue.endpoints["10.0.0.2:80"].weight: 2 → 0.5`,
			`pools.blue.endpoints["10.0.0.2:80"].capacity: removed (200/s)`,
			`pools.blue.endpoints["10.0.0.3:80"]: added (weight 1)`,
			`pools.blue.endpoints["10.0.0.1:80"]: removed (weight 1)`,
		}},
		{"a name that needs quotes", []string{`"v1.2": {endpoints`, `"v1.2": {version: "2", endpoints`}, []string{`pools["v1.2"].version: added ("2")`}},
		{"probe on", []string{", probe: off", ""},
			[]string{"pools.green.probe: off → {path: /health/ready, interval: 5s, timeout: 1s, rise: 2, fall: 3, status: 200-299}"}},
		{"probe off", []string{"version: v1.0.0", "version: v1.0.0, probe: off"},
			[]string{"pools.blue.probe: {path: /health/ready, interval: 5s, timeout: 1s, rise: 2, fall: 3, status: 200-299} → off"}},
		{"a default that follows another key", []string{"version: v1.0.0", "version: v1.0.0, probe: {interval: 500ms}"},
			[]string{"pools.blue.probe.interval: 5s → 500ms", "pools.blue.probe.timeout: 1s → 500ms"}},
		{"a pool and its route come", []string{"\nroutes:\n", "\n  red: {endpoints: [\"10.9.0.1:80\", \"10.9.0.2:80\"]}\nroutes:\n  - {name: red, match: {host: \"*.example.com\", path: /red}, split: {red: 1, blue: 0.5}}\n"}, []string{
			"pools.red: added (2 endpoints)",
			`routes.red: added (match: {host: "*.example.com", path: /red}, split: {red: 1, blue: 0.5})`,
		}},
		{"routes without a split come", []string{"\nroutes:\n", "\nroutes:\n  - {name: old, match: {path: /old}, redirect: {to: /new}}\n  - {name: text, match: {path: /text}, respond: {body: hello}}\n"}, []string{
			"routes.old: added (match: {path: /old}, redirect: {to: /new, status: 308})",
			"routes.text: added (match: {path: /text}, respond: status 200)",
		}},
		{"from a split to an answer", []string{"split: {v1.2: 1}", "respond: {status: 404}"}, []string{
			`routes.models.split["v1.2"]: removed (1)`, "routes.models.respond: added ({status: 404})",
		}},
		{"a route and a pool go", []string{"  - {name: models, match: {path_prefix: /models}, split: {v1.2: 1}}\n", "", "  \"v1.2\": {endpoints: [\"10.0.2.1:80\"]}\n", ""}, []string{
			`pools["v1.2"]: removed (1 endpoint)`,
			"routes.models: removed (match: {path_prefix: /models}, split: {v1.2: 1})",
		}},
		{"listeners", []string{`[{address: "127.0.0.1:8080"}, {address: ":8081"}]`, `[{address: ":8082", limits: {connections: 1}}, {address: "127.0.0.1:8080", limits: {body: 1MB}}]`}, []string{
			`listeners[":8082"]: added (at most 1 connection)`,
			`listeners["127.0.0.1:8080"].limits.body: 64MiB → 1MB`,
			`listeners[":8081"]: removed (at most 100000 connections)`,
		}},
		{"items without names", []string{"[10.0.0.0/8, 192.0.2.7]", "[192.0.2.7, 10.0.0.0/16, 192.0.2.0/24]", "methods: [POST]", "methods: [PUT, POST]"}, []string{
			"trusted_proxies: added (10.0.0.0/16)", "trusted_proxies: added (192.0.2.0/24)", "trusted_proxies: removed (10.0.0.0/8)",
			"routes.predict.match.methods: added (PUT)",
		}},
		{"a match", []string{"path: /predict", `path_regex: "^/p[a-z]+$"`, "{X-Tenant: acme}", `{X-Tenant: "a: b", "X.Y": ""}`}, []string{
			"routes.predict.match.path: removed (/predict)", `routes.predict.match.path_regex: added ("^/p[a-z]+$")`,
			`routes.predict.match.headers.X-Tenant: acme → "a: b"`, `routes.predict.match.headers["X.Y"]: added ("")`,
		}},
		{"affinity", []string{"header:X-User", "client_ip"}, []string{"routes.predict.affinity.key: header:X-User → client_ip"}},
		{"no affinity", []string{`, affinity: {key: "header:X-User"}`, ""},
			[]string{"routes.predict.affinity: removed ({key: header:X-User, fallback: random, salt: predict})"}},
		{"outlier off", []string{"version: v1.0.0", "version: v1.0.0, outlier: off, slow_start: 30s"}, []string{
			"pools.blue.outlier: {consecutive_failures: 5, failure_percent: 0, min_requests: 20, success_deviation: 0, latency_factor: 0, interval: 10s, ejection: 30s, max_ejection: 5m, max_eje… → off",
			"pools.blue.slow_start: 0s → 30s",
		}},
		{"outlier and retry written out", []string{
			"version: v1.0.0", "version: v1.0.0, outlier: {max_ejected_percent: 50%, ejection: 30s}, panic_threshold: 0%",
			"split: {blue: 1}", "split: {blue: 1}, retry: {on: [reset, connect], attempts: 2}",
		}, nil},
		{"percentages", []string{"version: v1.0.0", "version: v1.0.0, outlier: {failure_percent: 50%}, panic_threshold: 30"},
			[]string{"pools.blue.outlier.failure_percent: 0 → 50", "pools.blue.panic_threshold: 0 → 30"}},
		{"what is retried", []string{"split: {blue: 1}", "split: {blue: 1}, retry: {on: [5xx, connect, 429]}"},
			[]string{`routes.v1.retry.on: added ("429")`, `routes.v1.retry.on: added ("5xx")`, "routes.v1.retry.on: removed (reset)"}},
		{"retry off", []string{"split: {blue: 1}", "split: {blue: 1}, retry: off"},
			[]string{`routes.v1.retry: {attempts: 2, on: [connect, reset], idempotent: auto, budget_percent: 20, backoff: 25ms} → off`}},
		{"a rate limit", []string{"split: {blue: 1}", "split: {blue: 1}, rate_limit: {rate: 90/m}"},
			[]string{"routes.v1.rate_limit: added ({key: client_ip, rate: 1.5/s, burst: 2, cost: requests, max_delay: 0s, max_keys: 262144})"}},
		{"what is not the proxy's", []string{"\npools", "\nengine: goroutine\nstate: off\nlog: {level: debug, access: {output: off}}\nadmin: {address: \"127.0.0.1:1\", token_file: tokens, tls: {cert: a, key: b}}\npools"}, []string{
			"engine: auto → goroutine", `admin.address: 127.0.0.1:9901 → 127.0.0.1:1`, "admin.token_file: added (tokens)", "admin.tls: added ({cert: a, key: b})",
			"state: {file: weir.state.json} → off", "log.level: info → debug", "log.access: {output: stdout} → off",
		}},
		{"a variable stays one", []string{"v1.0.0", `"v$${x}"`}, []string{`pools.blue.version: v1.0.0 → "v$${x}"`}},
	} {
		t.Run(c.name, func(t *testing.T) {
			text := diffBase
			for i := 0; i < len(c.edits); i += 2 {
				if !strings.Contains(text, c.edits[i]) {
					t.Fatalf("nothing to replace: %s", c.edits[i])
				}
				text = strings.Replace(text, c.edits[i], c.edits[i+1], 1)
			}
			if got := said(Diff(base, parseDiff(t, text))); !slices.Equal(got, c.want) {
				t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(c.want, "\n"))
			}
		})
	}
}

// TestTextsOfADiff: what is shown without quotes is read as a text, and as the same.
func TestTextsOfADiff(t *testing.T) {
	for _, version := range []string{
		"v1", "1", "1.5", "1.5e3", "1e-3", "0x1f", "0o17", "1_000", "1.2.3", "true", "Null", "FALSE", "off", "yes", "-1", ".5", ".inf", ".nan", "~", "2026-01-02",
		"a: b", "a:", "#1", "a #b", "[a]", "{a}", "*a", "&a", "!a", "é", "a\"b", `a\b`, "a b", "%a", "@a", "`a`", "12:30:45", "10s", "a,b", "?", "- a", "=", "<<",
	} {
		text := inline(textNode(version))
		c, err := Parse("", []byte(strings.Replace(diffBase, "v1.0.0", text, 1)))
		if err != nil || c.Pools[0].Version != version {
			t.Errorf("%q is written as %s: %v", version, text, err)
		}
	}
}

// TestDiffOfOrder: the order of routes is a difference where it may decide which of them matches.
func TestDiffOfOrder(t *testing.T) {
	const head = "listeners: [{address: \":1\"}]\npools: {a: {endpoints: [\"h:1\"]}, b: {endpoints: [\"h:2\"]}}\nroutes:\n"
	route := func(name, match string) string {
		return "  - {name: " + name + ", match: {" + match + "}, split: {a: 1}}\n"
	}
	for _, c := range []struct {
		name, x, y string
		order      bool
	}{
		{"two paths", "path: /a", "path: /b", false},
		{"a path and a prefix", "path: /a", "path_prefix: /a", false},
		{"regular expressions", "path_regex: a", "path_regex: b, methods: [GET]", true},
		{"those of two hosts", "path_regex: a, host: a.example", "path_regex: b, host: b.example", false},
		{"one path, as many conditions", "path: /a, methods: [GET]", "path: /a, headers: {X: y}", true},
		{"one path, more conditions", "path: /a, methods: [GET]", "path: /a, methods: [GET], headers: {X: y}", false},
		{"one prefix", "path_prefix: /a, headers: {X: x}", "path_prefix: /a/, headers: {X: y}", true},
		{"two spellings of a path", "path: /a, headers: {X: x}", "path: /%61, headers: {X: y}", true},
		{"no path", "headers: {X: x}", "headers: {X: y}", true},
		{"no path and every path", "headers: {X: x}", "path_prefix: /, headers: {X: y}", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			x, y, z := route("x", c.x), route("y", c.y), route("z", "host: z.example")
			var want []string
			if c.order {
				want = []string{"routes: order changed"}
			}
			was, is := parseDiff(t, head+x+y), parseDiff(t, head+y+x)
			if got := said(Diff(was, is)); !slices.Equal(got, want) {
				t.Errorf("%q, want %q", got, want)
			}
			want = append(want, "routes.z: added (match: {host: z.example}, split: {a: 1})")
			if got := said(Diff(was, parseDiff(t, head+y+z+x))); !slices.Equal(got, want) {
				t.Errorf("with a third: %q, want %q", got, want)
			}
			if got := Diff(was, parseDiff(t, head+x+y)); got != nil {
				t.Errorf("in the same order: %v", got)
			}
		})
	}
	plain := parseDiff(t, diffBase)
	other := parseDiff(t, diffBase)
	slices.Reverse(other.Pools)
	slices.Reverse(other.Listeners)
	slices.Reverse(other.Pools[2].Endpoints)
	slices.Reverse(other.TrustedProxies)
	if got := Diff(plain, other); got != nil {
		t.Errorf("an order that decides nothing: %v", got)
	}
}

func TestDiffOfListenersWithOneAddress(t *testing.T) {
	c := func(listeners string) *Config {
		return parseDiff(t, strings.Replace(diffBase, `[{address: "127.0.0.1:8080"}, {address: ":8081"}]`, listeners, 1))
	}
	two := c(`[{address: ":0"}, {address: ":0", limits: {connections: 7}}]`)
	for text, want := range map[string][]string{
		`[{address: ":0"}, {address: ":0", limits: {connections: 7}}]`: nil,
		`[{address: ":0"}, {address: ":0", limits: {connections: 8}}]`: {`listeners[":0"].limits.connections: 7 → 8`},
		`[{address: ":0"}]`: {`listeners[":0"]: removed (at most 7 connections)`},
		`[{address: ":1"}, {address: ":0"}, {address: ":0", limits: {connections: 7}}]`: {`listeners[":1"]: added (at most 100000 connections)`},
	} {
		if got := said(Diff(two, c(text))); !slices.Equal(got, want) {
			t.Errorf("%s: %q, want %q", text, got, want)
		}
	}
}

func TestDiffOfALongValue(t *testing.T) {
	next := parseDiff(t, strings.Replace(diffBase, `"^/v1/"`, `"^/(`+strings.Repeat("é|", 500)+`x)"`, 1))
	d := Diff(parseDiff(t, diffBase), next)
	if len(d) != 1 || len(d[0].After) < 1000 || len(d[0].String()) > 300 || !strings.HasSuffix(d[0].String(), "é|…") {
		t.Errorf("%q", d)
	}
}

// TestDiffOfWhatIsRendered: a file of nearly the largest size renders to more than that, which can be read.
func TestDiffOfWhatIsRendered(t *testing.T) {
	c := parseDiff(t, string(largeFile(2000, 2000)))
	text, err := RenderJSON(c)
	if err != nil || len(text) <= MaxFile {
		t.Fatalf("%d bytes, %v", len(text), err)
	}
	again, err := ParseRendered(text)
	if err != nil {
		t.Fatal(err)
	}
	if got := Diff(c, again); got != nil {
		t.Errorf("%d differences, first %s", len(got), got[0])
	}
}
