package admin

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"weir/balancer/experiment"
	"weir/balancer/rollout"
	"weir/internal/certificate/acme"
	"weir/internal/state"
	"weir/proxy"
	"weir/proxy/control"
)

func TestDescriptionHasThePathsOfTheTable(t *testing.T) {
	var table, described []string
	for path, byMethod := range new(Server).table(http.NotFoundHandler()) {
		for method := range byMethod {
			table = append(table, method+" "+strings.ReplaceAll(path, "{$}", ""))
		}
	}
	d := readDescription(t)
	described = slices.Collect(maps.Keys(d.operations()))
	slices.Sort(table)
	slices.Sort(described)
	if diff := cmp.Diff(table, described); diff != "" {
		t.Errorf("table and description differ:\n%s", diff)
	}
}

func TestDescriptionOfEveryOperation(t *testing.T) {
	d := readDescription(t)
	ids := map[any]string{}
	for name, o := range d.operations() {
		method, path, _ := strings.Cut(name, " ")
		for _, key := range []string{"operationId", "summary", "tags"} {
			if o[key] == nil {
				t.Errorf("%s has no %s", name, key)
			}
		}
		if other, twice := ids[o["operationId"]]; twice {
			t.Errorf("%s has the operationId of %s", name, other)
		}
		ids[o["operationId"]] = name

		var inPath, params []string
		for _, m := range regexp.MustCompile(`\{(\w+)\}`).FindAllStringSubmatch(path, -1) {
			inPath = append(inPath, m[1])
		}
		list, _ := o["parameters"].([]any)
		ifMatch := false
		for _, p := range list {
			p := d.followed(p)
			if p["in"] == "path" {
				params = append(params, p["name"].(string))
			}
			ifMatch = ifMatch || p["name"] == "If-Match"
		}
		if !slices.Equal(inPath, params) {
			t.Errorf("%s: path parameters %v, want %v", name, params, inPath)
		}
		responses := d.followed(o["responses"])
		open := strings.HasPrefix(path, "/health/")
		write := method != "GET"
		done := "200"
		if responses["201"] != nil {
			done = "201" // what it makes was not there before
		}
		for code, due := range map[string]bool{done: true, "400": write, "401": !open, "403": !open, "412": write, "413": write, "415": write, "404": len(inPath) > 0} {
			if due && responses[code] == nil {
				t.Errorf("%s: no answer %s", name, code)
			}
		}
		if ifMatch != write || (o["requestBody"] != nil) != write {
			t.Errorf("%s: If-Match %v, body %v", name, ifMatch, o["requestBody"] != nil)
		}
		if security, ok := o["security"].([]any); open != (ok && len(security) == 0) {
			t.Errorf("%s: security %v", name, o["security"])
		}
		headers := d.followed(d.followed(responses[done])["headers"])
		if warned := headers["Warning"] != nil; warned != write {
			t.Errorf("%s: a Warning: %v", name, warned)
		}
		for code, r := range responses {
			content := d.followed(d.followed(r)["content"])
			if d.followed(r)["description"] == nil || len(content) == 0 {
				t.Errorf("%s: the answer %s has no description or no content", name, code)
			}
		}
	}
}

// TestDescriptionHasTheFieldsOfTheTypes compares properties with the fields that are answered and read.
func TestDescriptionHasTheFieldsOfTheTypes(t *testing.T) {
	d := readDescription(t)
	types := map[string]any{
		"Error": failure{}, "Health": health{}, "Status": proxy.Status{}, "Route": proxy.RouteStatus{}, "Ramp": proxy.RampStatus{},
		"Mirror": proxy.MirrorStatus{}, "MirrorReport": proxy.MirrorReport{}, "Disagreement": proxy.MirrorSample{},
		"Variant": proxy.VariantStatus{}, "Recent": proxy.Recent{}, "Pool": proxy.PoolStatus{}, "Endpoint": proxy.EndpointStatus{}, "Load": proxy.LoadStatus{}, "Discovery": proxy.DiscoveryStatus{}, "Scale": proxy.ScaleStatus{},
		"Change": state.Change{}, "RouteChange": state.RouteChange{}, "DrainChange": state.DrainChange{}, "Weight": state.Weight{},
		"RolledBack": rolledBack{}, "Reloaded": reloaded{}, "ABUpdated": abUpdated{}, "ABVariants": abConfig{}, "ABVariant": abVariant{},
		"Cache": proxy.CacheStatus{}, "Purged": purged{}, "Drift": control.DriftReport{}, "VersionDrift": control.VersionDrift{},
		"Experiment": experiment.Result{}, "Arm": experiment.ArmResult{}, "ArmOutcome": experiment.OutcomeResult{}, "Reported": reported{}, "RefusedReport": refusedReport{}, "Outcomes": nil,
		"RouteConcurrency": proxy.RouteConcurrency{}, "Bound": proxy.BoundStatus{}, "PoolConcurrency": proxy.PoolConcurrency{},
		"RolloutBrief": proxy.RolloutBrief{}, "Rollout": control.RolloutStatus{}, "RolloutStep": control.RolloutStep{},
		"Gate": control.GateStatus{}, "Registry": control.RegistryStatus{},
		"Analysis": rollout.Analysis{}, "Check": rollout.Check{}, "Counts": rollout.Counts{},
		"Adaptive": proxy.AdaptiveStatus{}, "CircuitBreaker": proxy.BreakerStatus{},
		// What is read is held to the handlers by TestDescribedBodiesAreAccepted, what is streamed by
		// TestAnswersAreAsDescribed: their types have no names here.
		"Routes": nil, "Rollouts": nil, "RolloutPhase": nil, "Verdict": nil, "RolloutEvent": nil, "StartRollout": nil, "Pools": nil, "Changes": nil, "Config": nil,
		"Purge": nil, "Weights": nil, "Switch": nil, "StopRamp": nil, "Why": nil, "Rollback": nil, "ABConfig": nil, "Empty": nil,
		"EjectionEvent": control.EjectionEvent{}, "BreakerEvent": control.BreakerEvent{}, "CertificateEvent": acme.Event{}, "EventType": nil, "HealthEvent": nil, "RampEvent": nil, "ReloadFailedEvent": nil, "LostEvent": nil,
	}
	for name := range d.at("#/components/schemas") {
		if _, ok := types[name]; !ok {
			t.Errorf("schema %s is compared with nothing", name)
		}
	}
	for name, v := range types {
		schema := d.at("#/components/schemas/" + name)
		if v == nil {
			continue
		}
		var fields, required []string
		for f := range reflect.TypeOf(v).Fields() {
			key, options, _ := strings.Cut(f.Tag.Get("json"), ",")
			fields = append(fields, key)
			if options == "" {
				required = append(required, key)
			}
		}
		slices.Sort(fields)
		if diff := cmp.Diff(fields, slices.Sorted(maps.Keys(schema["properties"].(map[string]any)))); diff != "" {
			t.Errorf("%s: fields (-) and properties (+):\n%s", name, diff)
		}
		var got []string
		for _, r := range schema["required"].([]any) {
			got = append(got, r.(string))
		}
		slices.Sort(got)
		slices.Sort(required)
		if diff := cmp.Diff(required, got); diff != "" {
			t.Errorf("%s: fields that are always there (-) and required (+):\n%s", name, diff)
		}
	}
	var enum []string
	for _, name := range d.at("#/components/schemas/EventType")["enum"].([]any) {
		enum = append(enum, name.(string))
	}
	if diff := cmp.Diff(eventTypes(), enum); diff != "" {
		t.Error(diff)
	}
}

// TestDescribedExamples holds each example to its schema.
func TestDescribedExamples(t *testing.T) {
	d := readDescription(t)
	found := 0
	var walk func(at []string, v any)
	walk = func(at []string, v any) {
		m, ok := v.(map[string]any)
		if !ok {
			if list, ok := v.([]any); ok {
				for i, item := range list {
					walk(append(slices.Clone(at), fmt.Sprint(i)), item)
				}
			}
			return
		}
		examples := map[string]any{}
		if e, ok := m["example"]; ok {
			examples["example"] = e
		}
		if all, ok := m["examples"].(map[string]any); ok {
			for name, e := range all {
				examples[name] = e.(map[string]any)["value"]
			}
		}
		for name, e := range examples {
			text, err := json.Marshal(e)
			if err != nil {
				t.Fatal(err)
			}
			found++
			d.check(strings.Join(at, " ")+" "+name, pointer(append(slices.Clone(at), "schema")...), text)
		}
		for key, item := range m {
			if key != "example" && key != "examples" {
				walk(append(slices.Clone(at), key), item)
			}
		}
	}
	walk(nil, d.root)
	if found < 25 {
		t.Errorf("%d examples", found)
	}
}

// TestDescribedBodiesAreAccepted sends every example of a body, and every property one by one.
func TestDescribedBodiesAreAccepted(t *testing.T) {
	d := readDescription(t)
	sent := 0
	for name, o := range d.operations() {
		method, path, _ := strings.Cut(name, " ")
		if o["requestBody"] == nil {
			continue
		}
		path = strings.NewReplacer("{route}", "predict", "{pool}", "blue", "{address}", "[::1]:8001").Replace(path)
		media := o["requestBody"].(map[string]any)["content"].(map[string]any)["application/json"].(map[string]any)
		for example, e := range media["examples"].(map[string]any) {
			a := start(t)
			// Everything has something that it can take back.
			must[proxy.RouteStatus](a, "POST", predict+"/switch", `{"to":"green"}`)
			must[proxy.RouteStatus](a, "PUT", predict+"/weights", `{"weights":{"blue":5,"green":5},"ramp":"1h"}`)
			for range 4 {
				must[proxy.PoolStatus](a, "POST", "/api/v1/pools/blue/drain", ``)
				must[proxy.PoolStatus](a, "POST", "/api/v1/pools/blue/undrain", ``)
			}
			if rolling := path != predict+"/rollout" && strings.HasPrefix(path, predict+"/rollout"); rolling {
				must[control.RolloutStatus](a, "POST", predict+"/rollout", `{"to":"green"}`)
			}
			text, err := json.Marshal(e.(map[string]any)["value"])
			if err != nil {
				t.Fatal(err)
			}
			if resp, body := a.write(method, path, string(text)); resp.StatusCode/100 != 2 {
				t.Errorf("%s, example %s: %d %s", name, example, resp.StatusCode, body)
			}
			sent++
		}
		// An unknown key is named before anything else is looked at; a known one is not.
		a := start(t)
		properties := d.followed(media["schema"])["properties"].(map[string]any)
		for _, key := range []string{"weights", "ramp", "reason", "force", "to", "back", "model_a_percentage", "generation"} {
			_, known := properties[key]
			_, body := a.write(method, path, fmt.Sprintf(`{%q:[]}`, key))
			if refused := strings.Contains(body, "unknown field"); refused == known {
				t.Errorf("%s: %q is described: %v; the handler says %s", name, key, known, body)
			}
		}
	}
	if sent < 13 {
		t.Errorf("%d bodies", sent)
	}
}

// TestAnswersAreAsDescribed makes every kind of answer and holds it to its schema.
func TestAnswersAreAsDescribed(t *testing.T) {
	d := readDescription(t)
	probed := strings.Replace(site, "['127.0.0.1:8002'], probe: off", "['127.0.0.1:1'], probe: {path: /health, interval: 100ms, timeout: 50ms, fall: 1}", 1)
	over := []string{
		"PUT", predict + "/weights", `{"weights":{"blue":1,"green":1},"reason":"x"}`, "/api/v1/routes/{route}/weights",
		"PUT", predict + "/weights", `{"weights":{"blue":3,"green":1},"ramp":"1h","reason":"x"}`, "/api/v1/routes/{route}/weights",
		"GET", predict, "", "/api/v1/routes/{route}",
		"DELETE", predict + "/ramp", ``, "/api/v1/routes/{route}/ramp",
		"DELETE", predict + "/ramp", ``, "/api/v1/routes/{route}/ramp",
		"POST", predict + "/switch", `{"to":"green"}`, "/api/v1/routes/{route}/switch",
		"POST", predict + "/switch", `{}`, "/api/v1/routes/{route}/switch",
		"POST", predict + "/switch", `{"to":"nope"}`, "/api/v1/routes/{route}/switch",
		"POST", "/api/v1/pools/blue/drain", `{"reason":"x"}`, "/api/v1/pools/{pool}/drain",
		"POST", "/api/v1/pools/green/drain", ``, "/api/v1/pools/{pool}/drain",
		"POST", "/api/v1/pools/blue/undrain", ``, "/api/v1/pools/{pool}/undrain",
		"POST", "/api/v1/pools/blue/endpoints/127.0.0.1:8001/drain", ``, "/api/v1/pools/{pool}/endpoints/{address}/drain",
		"POST", "/api/v1/pools/blue/endpoints/127.0.0.1:8001/undrain", ``, "/api/v1/pools/{pool}/endpoints/{address}/undrain",
		"POST", predict + "/cache/purge", `{"prefix":"/"}`, "/api/v1/routes/{route}/cache/purge",
		"POST", predict + "/cache/purge", `{"path":"relative"}`, "/api/v1/routes/{route}/cache/purge",
		"POST", "/api/v1/routes/rank/cache/purge", ``, "/api/v1/routes/{route}/cache/purge",
		"GET", predict + "/drift", "", "/api/v1/routes/{route}/drift",
		"GET", "/api/v1/routes/rank/drift", "", "/api/v1/routes/{route}/drift",
		"GET", predict + "/experiment", "", "/api/v1/routes/{route}/experiment",
		"GET", "/api/v1/routes/rank/experiment", "", "/api/v1/routes/{route}/experiment",
		"POST", predict + "/experiment/outcomes", `{"outcomes":[{"request_id":"x","name":"bought","value":1}]}`, "/api/v1/routes/{route}/experiment/outcomes",
		"POST", predict + "/experiment/outcomes", `{"outcomes":[]}`, "/api/v1/routes/{route}/experiment/outcomes",
		"POST", "/api/v1/routes/rank/experiment/outcomes", `{"outcomes":[{"request_id":"x","name":"bought","value":1}]}`, "/api/v1/routes/{route}/experiment/outcomes",
		"GET", predict + "/rollout", "", "/api/v1/routes/{route}/rollout",
		"POST", predict + "/rollout", `{"to":"blue","reason":"x"}`, "/api/v1/routes/{route}/rollout",
		"POST", predict + "/rollout", `{"to":"nope"}`, "/api/v1/routes/{route}/rollout",
		"POST", predict + "/switch", `{"to":"green"}`, "/api/v1/routes/{route}/switch",
		"POST", predict + "/rollout/pause", ``, "/api/v1/routes/{route}/rollout/pause",
		"POST", predict + "/rollout/resume", ``, "/api/v1/routes/{route}/rollout/resume",
		"POST", predict + "/rollout/promote", ``, "/api/v1/routes/{route}/rollout/promote",
		"GET", predict + "/rollout", "", "/api/v1/routes/{route}/rollout",
		"GET", predict, "", "/api/v1/routes/{route}",
		"GET", "/api/v1/rollouts", "", "/api/v1/rollouts",
		"POST", predict + "/rollout/abort", `{"reason":"x"}`, "/api/v1/routes/{route}/rollout/abort",
		"POST", predict + "/rollout/abort", ``, "/api/v1/routes/{route}/rollout/abort",
		"POST", "/api/v1/rollback", `{"to":1}`, "/api/v1/rollback",
		"POST", "/api/v1/reload", ``, "/api/v1/reload",
		"POST", "/ab/config", `{"model_a_percentage":1}`, "/ab/config",
		"POST", "/ab/config", `{"model_a_percentage":101}`, "/ab/config",
		"GET", "/api/v1/routes", "", "/api/v1/routes",
		"GET", "/api/v1/routes/nope", "", "/api/v1/routes/{route}",
		"GET", "/api/v1/routes/rank/mirror", "", "/api/v1/routes/{route}/mirror",
		"GET", "/api/v1/pools", "", "/api/v1/pools",
		"GET", "/api/v1/pools/blue", "", "/api/v1/pools/{pool}",
		"GET", "/api/v1/status", "", "/api/v1/status",
		"GET", "/api/v1/history", "", "/api/v1/history",
		"GET", "/api/v1/history?limit=x", "", "/api/v1/history",
		"GET", "/api/v1/config", "", "/api/v1/config",
		"GET", "/health/live", "", "/health/live",
		"GET", "/health/ready", "", "/health/ready",
		"GET", "/health/startup", "", "/health/startup",
		"GET", "/metrics", "", "/metrics",
		"GET", "/", "", "/",
		"GET", "/api/v1/openapi.yaml", "", "/api/v1/openapi.yaml",
	}
	a := start(t)
	a.set(func() {
		a.notReady = []string{"no"}
		a.reload = func(by string) (uint64, []string, error) { return a.Apply(parse(t, probed), proxy.Cause{By: by}) }
	})
	events := a.stream("", "Last-Event-ID", "unknown")
	for i := 0; i < len(over); i += 4 {
		method, path, body, template := over[i], over[i+1], over[i+2], over[i+3]
		resp, text := a.write(method, path, body)
		at := []string{"paths", template, strings.ToLower(method), "responses", fmt.Sprint(resp.StatusCode)}
		answer := d.at(pointer(at...))
		what := fmt.Sprint(method, " ", path, " ", resp.StatusCode)
		media, _, _ := strings.Cut(resp.Header.Get("Content-Type"), ";")
		if _, ok := d.followed(answer["content"])[media]; !ok {
			t.Errorf("%s: a body of type %s", what, media)
			continue
		}
		if _, ok := d.followed(answer["headers"])["ETag"]; ok != (resp.Header.Get("ETag") != "") {
			t.Errorf("%s: an ETag is described: %v; there is %q", what, ok, resp.Header.Get("ETag"))
		}
		if media == "application/json" {
			d.check(what, d.schemaOf(answer), []byte(text))
		}
	}
	schemas := map[string]string{"certificate": "CertificateEvent", "change": "Change", "health": "HealthEvent", "ramp": "RampEvent", "ejection": "EjectionEvent", "circuit_breaker": "BreakerEvent", "reload_failed": "ReloadFailedEvent", "rollout": "RolloutEvent", "lost": "LostEvent"}
	a.ReloadFailed("SIGHUP", []string{"weir.yaml:1:1: wrong"})
	seen, states := map[string]bool{}, map[string]bool{}
	for len(seen) < len(schemas)-3 || // no endpoint fails so often that it is ejected, no breaker opens, no certificate is ordered
		len(states) < 2 {
		e, ok := events.next()
		if !ok {
			t.Fatalf("no more events after %v", seen)
		}
		d.check("event "+e.kind, "#/components/schemas/"+schemas[e.kind], []byte(e.data))
		seen[e.kind] = true
		if e.kind == "ramp" {
			states[e.data[strings.Index(e.data, `"state"`):][:16]] = true
		}
	}
}

func TestDescriptionIsServed(t *testing.T) {
	a := start(t)
	resp := send(t, a.url, call{method: "GET", path: "/api/v1/openapi.yaml"})
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != 200 || resp.Header.Get("Content-Type") != "application/yaml" || !bytes.Equal(text, openAPIDocument) {
		t.Errorf("%s %v, %d bytes, %v", resp.Status, resp.Header, len(text), err)
	}
}
