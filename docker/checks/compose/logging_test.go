package compose_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/types"
	"go.yaml.in/yaml/v4"
)

func read(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(folder, file))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// collectors are the stacks that send logs, and who takes them there.
var collectors = map[string]string{"compose.logging.yaml": "fluent-bit", "compose.fluentd.yaml": "fluentd", "compose.production.yaml": "fluent-bit"}

// TestLogsAreSent: the engine sends the logs of weir and of the model servers to a port of this machine at which the
// collector is published, without waiting for it, under a tag that the collector's configuration takes.
func TestLogsAreSent(t *testing.T) {
	for file, collector := range collectors {
		project := load(t, file)
		takes := project.Services[collector]
		for name, s := range project.Services {
			if !strings.Contains(s.Image, "/weir:") && !strings.Contains(s.Image, "/weir-backend:") {
				continue
			}
			if s.Logging == nil || s.Logging.Driver != "fluentd" {
				t.Errorf("%s: %s does not send its logs", file, name)
				continue
			}
			options := s.Logging.Options
			host, port, _ := strings.Cut(options["fluentd-address"], ":")
			if host != "127.0.0.1" || !slices.ContainsFunc(takes.Ports, func(p types.ServicePortConfig) bool { return p.Published == port && p.Protocol == "tcp" }) {
				t.Errorf("%s: %s sends to %s, where the engine finds no %s", file, name, options["fluentd-address"], collector)
			}
			if options["fluentd-async"] != "true" {
				t.Errorf("%s: %s does not start while %s is away", file, name, collector)
			}
			if tag := options["tag"]; !strings.HasPrefix(tag, "ml-api.") {
				t.Errorf("%s: %s sends under the tag %s", file, name, tag)
			}
		}
	}
}

// TestFluentBit reads its configuration as Fluent Bit would: sections, plugins and parsers that there are.
func TestFluentBit(t *testing.T) {
	var config struct {
		Service  map[string]any
		Parsers  []map[string]any
		Pipeline struct{ Inputs, Filters, Outputs []map[string]any }
	}
	decoder := yaml.NewDecoder(strings.NewReader(read(t, "logging/fluent-bit.yaml")))
	decoder.KnownFields(true)
	if err := decoder.Decode(&config); err != nil {
		t.Fatal(err)
	}
	bit := load(t, "compose.logging.yaml").Services["fluent-bit"]
	if at := fmt.Sprint(config.Service["storage.path"]); !slices.ContainsFunc(bit.Volumes, func(v types.ServiceVolumeConfig) bool { return v.Target == at && !v.ReadOnly }) {
		t.Errorf("nothing that it may write to is mounted at its storage.path %s", at)
	}
	parsers := map[string]map[string]any{}
	for _, p := range config.Parsers {
		parsers[fmt.Sprint(p["name"])] = p
		if p["format"] != "json" {
			t.Errorf("parser %v: format %v", p["name"], p["format"])
		}
	}
	if in := config.Pipeline.Inputs; len(in) != 1 || in[0]["name"] != "forward" || fmt.Sprint(in[0]["port"]) != fmt.Sprint(bit.Ports[0].Target) {
		t.Errorf("inputs %v do not take what comes to port %d", in, bit.Ports[0].Target)
	}
	keys := map[string][]string{
		"parser":          {"name", "match", "key_name", "parser", "reserve_data", "preserve_key"},
		"record_modifier": {"name", "match", "record"},
		"es": {"name", "match", "host", "port", "logstash_format", "logstash_prefix", "include_tag_key", "tag_key", "suppress_type_name", "generate_id",
			"write_operation", "replace_dots", "trace_error", "retry_limit", "storage.total_limit_size"},
	}
	for _, plugin := range slices.Concat(config.Pipeline.Filters, config.Pipeline.Outputs) {
		name := fmt.Sprint(plugin["name"])
		if keys[name] == nil {
			t.Errorf("a plugin %s, of which this test knows nothing", name)
		}
		for key := range plugin {
			if !slices.Contains(keys[name], key) {
				t.Errorf("%s has no setting %s", name, key)
			}
		}
		if match, err := path.Match(fmt.Sprint(plugin["match"]), "ml-api.ml-logging-weir-1"); err != nil || !match {
			t.Errorf("%s does not take what is sent: match %v", name, plugin["match"])
		}
		if p := plugin["parser"]; p != nil && parsers[fmt.Sprint(p)] == nil {
			t.Errorf("%s names a parser %v, which there is not", name, p)
		}
	}
	out := config.Pipeline.Outputs[0]
	elastic := load(t, "compose.logging.yaml").Services[fmt.Sprint(out["host"])]
	if elastic.Name == "" || fmt.Sprint(elastic.Ports[0].Target) != fmt.Sprint(out["port"]) {
		t.Errorf("it sends to %v:%v, where nobody is", out["host"], out["port"])
	}
	if out["suppress_type_name"] != true {
		t.Error("Elasticsearch 8 refuses records with a type")
	}
}

// TestFluentd reads the guide's variant: sections that are closed, plugins that its image has, a buffer in the volume.
func TestFluentd(t *testing.T) {
	var open []string
	settings := map[string]string{} // by the sections around them
	for i, line := range strings.Split(read(t, "fluentd/conf/fluent.conf"), "\n") {
		line = strings.TrimSpace(line)
		switch {
		case line == "" || strings.HasPrefix(line, "#"):
		case strings.HasPrefix(line, "</"):
			if len(open) == 0 || "</"+strings.Fields(open[len(open)-1])[0]+">" != line {
				t.Fatalf("line %d: %s closes nothing; open are %v", i+1, line, open)
			}
			open = open[:len(open)-1]
		case strings.HasPrefix(line, "<"):
			open = append(open, strings.Trim(line, "<>"))
		default:
			key, value, _ := strings.Cut(line, " ")
			if len(open) == 0 {
				t.Errorf("line %d: %s is in no section", i+1, key)
			}
			settings[strings.Join(open, "/")+"/"+key] = strings.TrimSpace(value)
		}
	}
	if len(open) > 0 {
		t.Errorf("not closed: %v", open)
	}
	for key, want := range map[string]string{
		"source/@type": "forward", "source/port": "24224",
		"filter ml-api.**/parse/@type": "json", "filter ml-api.**/emit_invalid_record_to_error": "false",
		"match ml-api.**/@type": "elasticsearch", "match ml-api.**/host": "elasticsearch", "match ml-api.**/port": "9200",
		"match ml-api.**/suppress_type_name": "true", "match ml-api.**/logstash_prefix": "ml-api",
		"match ml-api.**/buffer/@type": "file", "match ml-api.**/buffer/flush_interval": "10s", "match ml-api.**/buffer/retry_max_interval": "30s",
		"match ml-api.**/buffer/chunk_limit_size": "2M",
	} {
		if settings[key] != want {
			t.Errorf("%s is %q, want %q", key, settings[key], want)
		}
	}
	fluentd := load(t, "compose.fluentd.yaml").Services["fluentd"]
	if !slices.ContainsFunc(fluentd.Volumes, func(v types.ServiceVolumeConfig) bool {
		return !v.ReadOnly && strings.HasPrefix(settings["match ml-api.**/buffer/path"], v.Target+"/")
	}) {
		t.Errorf("the buffer %s is in nothing that it may write to", settings["match ml-api.**/buffer/path"])
	}
	if !strings.Contains(read(t, "fluentd/Dockerfile"), "fluent-plugin-elasticsearch:") {
		t.Error("its image has no output for Elasticsearch")
	}
}

// TestTemplateKnowsTheFields: every field of weir's access log has a type, so that none is guessed from its first value.
func TestTemplateKnowsTheFields(t *testing.T) {
	var template struct {
		Patterns []string `json:"index_patterns"`
		Template struct {
			Settings map[string]any
			Mappings struct {
				Properties map[string]struct{ Type string }
			}
		}
	}
	decoder := json.NewDecoder(strings.NewReader(read(t, "logging/index-template.json")))
	if err := decoder.Decode(&template); err != nil {
		t.Fatal(err)
	}
	source := read(t, "../internal/telemetry/accessentry.go")
	fields := regexp.MustCompile("append(\\w+)\\(b, `,\"(\\w+)\":").FindAllStringSubmatch(source, -1)
	if len(fields) < 20 {
		t.Fatalf("the access log was found to have %d fields", len(fields))
	}
	want := map[string][]string{"Text": {"keyword", "text"}, "Number": {"short", "long"}, "Millis": {"float"}}
	for _, f := range fields {
		if got := template.Template.Mappings.Properties[f[2]].Type; !slices.Contains(want[f[1]], got) {
			t.Errorf("the field %s is a %s there, and %q in the template", f[2], f[1], got)
		}
	}
	if match, _ := path.Match(template.Patterns[0], "ml-api-2026.11.27"); !match {
		t.Errorf("the template is for %v", template.Patterns)
	}
	if template.Template.Settings["index.lifecycle.name"] != "ml-api" {
		t.Errorf("settings %v", template.Template.Settings)
	}
}

// TestSetup runs the script that puts template and lifecycle in their place, against a server that takes them.
func TestSetup(t *testing.T) {
	var got []string
	fail := false
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil || !json.Valid(body) || r.Header.Get("Content-Type") != "application/json" {
			t.Errorf("%s %s: no JSON: %v", r.Method, r.URL.Path, err)
		}
		got = append(got, r.Method+" "+r.URL.Path)
		if fail {
			w.WriteHeader(http.StatusBadRequest)
		}
	}))
	defer server.Close()
	script := filepath.Join(folder, "logging/setup.sh")
	if out, err := exec.Command("sh", script, server.URL).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if want := []string{"PUT /_ilm/policy/ml-api", "PUT /_index_template/ml-api"}; !slices.Equal(got, want) {
		t.Errorf("it asked %v, want %v", got, want)
	}
	fail = true
	if err := exec.Command("sh", script, server.URL).Run(); err == nil {
		t.Error("it is content with a refusal")
	}
}
