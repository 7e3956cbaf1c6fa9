package main

import (
	"bytes"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/spf13/pflag"

	"weir/config"
)

// gather collects settings from command line, file ("" for none) and environment.
func gather(t *testing.T, args []string, file string, env map[string]string) (settings, error) {
	t.Helper()
	var flags settings
	set := pflag.NewFlagSet("test", pflag.ContinueOnError)
	flags.bind(set)
	if err := set.Parse(args); err != nil {
		return flags, err
	}
	path := ""
	if file != "" {
		path = filepath.Join(t.TempDir(), "backend.yaml")
		if err := os.WriteFile(path, []byte(file), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return collect(set, &flags, path, func(name string) string { return env[name] })
}

func modelAt(name, version, path string) modelSetting {
	return modelSetting{Name: name, Version: version, Path: path}
}

// compare are the options to compare settings with.
func compare() cmp.Options {
	return cmp.Options{cmp.AllowUnexported(settings{}), cmpopts.IgnoreUnexported(modelSetting{})}
}

func TestDefaults(t *testing.T) {
	s, err := gather(t, []string{"--model", "m.onnx"}, "", nil)
	if err != nil {
		t.Fatal(err)
	}
	off := false
	want := settings{
		repository: repositorySetting{Versions: 1, Control: &off},
		batching:   batchingSetting{MaxBatch: 1}, providers: []providerSetting{{Name: "cpu"}}, strict: &off,
		listen: "127.0.0.1:8001", models: []modelSetting{{Name: "m", Path: "m.onnx"}}, logLevel: "info", threads: 1,
		queue: 1024, body: 64 * config.MiB, gate: &off, gpu: "auto", drift: defaultDrift(), timeout: 30 * time.Second,
	}
	if diff := cmp.Diff(want, s, compare()); diff != "" {
		t.Error(diff)
	}
}

// TestPrecedence sets everything everywhere: a flag goes before the file, the file before the
// environment.
func TestPrecedence(t *testing.T) {
	env := map[string]string{
		"MODEL_PATH": "/env/model.onnx", "MODEL_VERSION": "env", "ENVIRONMENT": "env", "LOG_LEVEL": "CRITICAL", "GRPC_LISTEN": "env:1",
	}
	file := `
listen: 127.0.0.1:1
grpc_listen: 127.0.0.1:2
port_file: p
models: [{name: file, version: v2, path: /file/model.onnx}, {path: sub/other.onnx}]
environment: file
log: {level: WARNING}
onnxruntime: /file/lib
threads: 2
workers: 3
queue: 4
limits: {body: 5KiB}
repository: {folder: repo, versions: 2, poll: 5s, control: true}
batching: {max_batch: 16, max_delay: 1ms, preferred: [4]}
execution_providers: [tensorrt, {name: cuda, options: {device_id: 1}}]
strict: true
resource_gate: true
gpu: "off"
drift: {watch: false, features: 0, feature_names: [age], window: 2h, first: 10, least: 20, alpha: 0.05, psi: 0.2, ks: 0.3, references: sub/r.json, control: true}
shutdown: {delay: 1s, timeout: 2s}
`
	s, err := gather(t, nil, file, env)
	if err != nil {
		t.Fatal(err)
	}
	folder := filepath.Dir(s.portFile)
	on, off := true, false
	want := settings{
		listen: "127.0.0.1:1", grpcListen: "127.0.0.1:2", portFile: filepath.Join(folder, "p"),
		models:     []modelSetting{modelAt("file", "v2", "/file/model.onnx"), modelAt("other", "env", filepath.Join(folder, "sub/other.onnx"))},
		repository: repositorySetting{Folder: filepath.Join(folder, "repo"), Versions: 2, Poll: 5 * time.Second, Control: &on},
		batching:   batchingSetting{MaxBatch: 16, MaxDelay: time.Millisecond, Preferred: []int{4}}, strict: &on,
		providers: []providerSetting{{Name: "tensorrt"}, {Name: "cuda", Options: map[string]string{"device_id": "1"}}},
		version:   "env", environment: "file", logLevel: "warn", library: "/file/lib",
		threads: 2, workers: 3, queue: 4, body: 5 * config.KiB, gate: &on, gpu: "off", drift: drifting(&off, &on, filepath.Join(folder, "sub/r.json")), delay: time.Second, timeout: 2 * time.Second,
	}
	if diff := cmp.Diff(want, s, compare()); diff != "" {
		t.Errorf("the file before the environment: %s", diff)
	}
	s, err = gather(t, []string{
		"--listen", ":2", "--grpc-listen", ":3", "--port-file", "q", "--model", "flag=f.onnx", "--version", "v3", "--environment", "flag", "--log-level", "debug",
		"--onnxruntime", "l", "--threads", "6", "--workers", "7", "--queue", "8", "--max-body", "9MB", "--resource-gate=false",
		"--model-repository", "r", "--poll", "6s", "--model-control=false", "--max-batch", "32", "--max-delay", "2ms", "--execution-providers", "cuda, cpu", "--strict=false",
		"--gpu", "auto", "--drift", "--drift-control=false", "--drift-references", "d.json", "--shutdown-delay", "3s", "--shutdown-timeout", "4s",
	}, file, env)
	if err != nil {
		t.Fatal(err)
	}
	want = settings{
		listen: ":2", grpcListen: ":3", portFile: "q", models: []modelSetting{modelAt("flag", "v3", "f.onnx")}, version: "v3", environment: "flag", logLevel: "debug",
		repository: repositorySetting{Folder: "r", Versions: 2, Poll: 6 * time.Second, Control: &off},
		batching:   batchingSetting{MaxBatch: 32, MaxDelay: 2 * time.Millisecond, Preferred: []int{4}}, strict: &off,
		providers: []providerSetting{{Name: "cuda"}, {Name: "cpu"}},
		library:   "l", threads: 6, workers: 7, queue: 8, body: 9_000_000, gate: &off, gpu: "auto", drift: drifting(&on, &off, "d.json"), driftFlag: true, delay: 3 * time.Second, timeout: 4 * time.Second,
	}
	if diff := cmp.Diff(want, s, compare()); diff != "" {
		t.Errorf("flags before the file: %s", diff)
	}
	s, err = gather(t, nil, "", map[string]string{"MODEL_PATH": "/m/x-v1.onnx", "MODEL_NAME": "x", "MODEL_VERSION": "v1", "GRPC_LISTEN": ":9001"})
	if err != nil || s.grpcListen != ":9001" || !cmp.Equal(s.models, []modelSetting{modelAt("x", "v1", "/m/x-v1.onnx")}, compare()) {
		t.Errorf("from the environment: %+v, %v", s, err)
	}
}

func TestModelFlag(t *testing.T) {
	f := func(text string, want modelSetting) {
		t.Helper()
		var m modelFlag
		if err := m.Set(text); err != nil || m[0] != want {
			t.Errorf("%s is %+v, %v; want %+v", text, m, err, want)
		}
	}
	f("a=m.onnx", modelAt("a", "", "m.onnx"))
	f("a=m.onnx@v1", modelAt("a", "v1", "m.onnx"))
	f("a=models/m@v1.onnx", modelAt("a", "", "models/m@v1.onnx"))
	f("a=models/m@v1.onnx@v2", modelAt("a", "v2", "models/m@v1.onnx"))
	f("a=host@dir/m.onnx", modelAt("a", "", "host@dir/m.onnx"))
	f("a=dir@v1", modelAt("a", "v1", "dir"))
	f("m.onnx", modelAt("", "", "m.onnx"))
	f("m.onnx@v1", modelAt("", "v1", "m.onnx"))
	for _, bad := range []string{"", "a=", "a=@v1", "a=m.onnx@"} {
		var m modelFlag
		if err := m.Set(bad); err == nil || !strings.Contains(err.Error(), "want NAME=PATH") {
			t.Errorf("%q: %+v, %v", bad, m, err)
		}
	}
}

func TestSettingsRefused(t *testing.T) {
	f := func(want string, file string, args ...string) {
		t.Helper()
		if _, err := gather(t, args, file, nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v %q: %v; want %q in it", args, file, err, want)
		}
	}
	const model = "models: [{path: m.onnx}]\n"
	f("no model to serve; give --model NAME=PATH", "")
	f("no model to serve", "listen: :1")
	f("drift: window is 5s; want at least 12 s", model+"drift: {window: 5s}\n")
	f("drift: alpha is 1;", model+"drift: {alpha: 1}\n")
	f("drift: features is 33, with 0 names; want at most 32", model+"drift: {features: 33}\n")
	f("drift: features is -1; want 0 to 32", model+"drift: {features: -1}\n")
	f("drift: a name of a feature is empty", model+"drift: {feature_names: [age, '']}\n")
	f(`gpu is "on"; want one of auto, nvidia, amd, off`, "", "--model", "m.onnx", "--gpu", "on")
	f("queue is -1; want more than 0", "", "--model", "m.onnx", "--queue", "-1")
	f("shutdown-delay is -1s", "", "--model", "m.onnx", "--shutdown-delay", "-1s")
	f(`unknown log level "loud" (have debug`, "", "--model", "m.onnx", "--log-level", "loud")
	f(`"lots" has no known unit`, "", "--model", "m.onnx", "--max-body", "lots")
	f("execution_providers: unknown execution provider \"gpu\" (have cpu, cuda, tensorrt)", model+"execution_providers: [gpu]\n")
	f("put cpu last", "", "--model", "m.onnx", "--execution-providers", "cpu,cuda")
	f("line 2: an execution provider has no \"option\"", model+"execution_providers: [{name: cuda, option: {}}]\n")
	f("line 2: an execution provider has no name", model+"execution_providers: [{options: {}}]\n")
	f("batching: max_delay and preferred say when a batch runs", "", "--model", "m.onnx", "--max-delay", "1ms")
	f("batching: the preferred size 9", model+"batching: {max_batch: 8, preferred: [9]}\n")
	f("model m: the preferred size 9", "models: [{path: m.onnx, batching: {max_batch: 8, preferred: [9]}}]\n")
	f("model m: priority is 3; want a level of 1 to 2", "models: [{path: m.onnx, priorities: 2, priority: 3}]\n")
	f("max_btach", "models: [{path: m.onnx, batching: {max_btach: 8}}]\n")
	f("modles", model+"modles: []\n")
	f("backend.yaml: ", model+"threads: many\n")
	f("repository.versions is -2; want how many", "repository: {folder: r, versions: -2}\n")
	f("repository.poll is 1s, but there is no repository.folder", model+"repository: {poll: 1s}\n")
	f("model a: a model of repository.folder has the versions of the folder", "models: [{name: a, version: v1}]\nrepository: {folder: r}\n")
	f("models[0] has no path", "models: [{batching: {}}]\nrepository: {folder: r}\n")
	f("models[0] has no path", "models: [{name: a}]\n")
	f("limits.body: ", model+"limits: {body: 5 lots}\n")
}

// TestUsageErrors checks the status of wrong usage, which is 2.
func TestUsageErrors(t *testing.T) {
	f := func(want string, args ...string) {
		t.Helper()
		var out, errors bytes.Buffer
		if status := execute(t.Context(), args, &out, &errors); status != 2 || !strings.Contains(errors.String(), want) || out.Len() > 0 {
			t.Errorf("%v: status %d, %q, stdout %q; want 2 and %q", args, status, errors.String(), out.String(), want)
		}
	}
	f("unknown flag: --modle", "--modle", "x")
	f("unknown command", "serve")
	f("no model to serve")
	f("no such file", "-c", "/no/such.yaml")
	f("want NAME=PATH", "--model", "a=")
}

// drifting is the drift of the file of the test, but for what flags change.
func drifting(watch, control *bool, references string) driftSetting {
	return driftSetting{
		Watch: watch, Features: new(int), Names: []string{"age"}, Window: 2 * time.Hour, First: 10, Least: 20, Alpha: 0.05, PSI: 0.2, KS: 0.3, References: references, Control: control,
	}
}

// TestReference checks that reference.yaml states the defaults and has every key.
func TestReference(t *testing.T) {
	s, err := readFile("reference.yaml")
	if err != nil {
		t.Fatal(err)
	}
	want := defaults()
	want.models = []modelSetting{modelAt("fashion", "v1.0.0", "models/fashion-v1.onnx")}
	want.batching.Preferred, want.drift.Names = []int{}, []string{}
	if diff := cmp.Diff(want, s, compare()); diff != "" {
		t.Errorf("(-defaults +reference):\n%s", diff)
	}
	content, err := os.ReadFile("reference.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, of := range []reflect.Type{reflect.TypeFor[file](), reflect.TypeFor[modelSetting](), reflect.TypeFor[batchingSetting](), reflect.TypeFor[repositorySetting](), reflect.TypeFor[providerSetting](), reflect.TypeFor[driftSetting]()} {
		for i := range of.NumField() {
			if key := of.Field(i).Tag.Get("yaml"); key != "" && !strings.Contains(string(content), key+":") {
				t.Errorf("reference.yaml has no key %s", key)
			}
		}
	}
}
