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

func TestDefaults(t *testing.T) {
	s, err := gather(t, []string{"--model", "m.onnx"}, "", nil)
	if err != nil {
		t.Fatal(err)
	}
	off := false
	want := settings{
		listen: "127.0.0.1:8001", models: []modelSetting{{Name: "m", Path: "m.onnx"}}, logLevel: "info", threads: 1,
		queue: 1024, body: 64 * config.MiB, gate: &off, gpu: "auto", timeout: 30 * time.Second,
	}
	if diff := cmp.Diff(want, s, cmp.AllowUnexported(settings{})); diff != "" {
		t.Error(diff)
	}
}

// TestPrecedence sets everything everywhere: a flag goes before the file, the file before the
// environment.
func TestPrecedence(t *testing.T) {
	env := map[string]string{
		"MODEL_PATH": "/env/model.onnx", "MODEL_VERSION": "env", "ENVIRONMENT": "env", "LOG_LEVEL": "CRITICAL",
	}
	file := `
listen: 127.0.0.1:1
port_file: p
models: [{name: file, version: v2, path: /file/model.onnx}, {path: sub/other.onnx}]
environment: file
log: {level: WARNING}
onnxruntime: /file/lib
threads: 2
workers: 3
queue: 4
limits: {body: 5KiB}
resource_gate: true
gpu: "off"
shutdown: {delay: 1s, timeout: 2s}
`
	s, err := gather(t, nil, file, env)
	if err != nil {
		t.Fatal(err)
	}
	folder := filepath.Dir(s.portFile)
	on := true
	want := settings{
		listen: "127.0.0.1:1", portFile: filepath.Join(folder, "p"),
		models:  []modelSetting{{"file", "v2", "/file/model.onnx"}, {"other", "env", filepath.Join(folder, "sub/other.onnx")}},
		version: "env", environment: "file", logLevel: "warn", library: "/file/lib",
		threads: 2, workers: 3, queue: 4, body: 5 * config.KiB, gate: &on, gpu: "off", delay: time.Second, timeout: 2 * time.Second,
	}
	if diff := cmp.Diff(want, s, cmp.AllowUnexported(settings{})); diff != "" {
		t.Errorf("the file before the environment: %s", diff)
	}
	s, err = gather(t, []string{
		"--listen", ":2", "--port-file", "q", "--model", "flag=f.onnx", "--version", "v3", "--environment", "flag", "--log-level", "debug",
		"--onnxruntime", "l", "--threads", "6", "--workers", "7", "--queue", "8", "--max-body", "9MB", "--resource-gate=false",
		"--gpu", "auto", "--shutdown-delay", "3s", "--shutdown-timeout", "4s",
	}, file, env)
	if err != nil {
		t.Fatal(err)
	}
	off := false
	want = settings{
		listen: ":2", portFile: "q", models: []modelSetting{{"flag", "v3", "f.onnx"}}, version: "v3", environment: "flag", logLevel: "debug",
		library: "l", threads: 6, workers: 7, queue: 8, body: 9_000_000, gate: &off, gpu: "auto", delay: 3 * time.Second, timeout: 4 * time.Second,
	}
	if diff := cmp.Diff(want, s, cmp.AllowUnexported(settings{})); diff != "" {
		t.Errorf("flags before the file: %s", diff)
	}
	s, err = gather(t, nil, "", map[string]string{"MODEL_PATH": "/m/x-v1.onnx", "MODEL_NAME": "x", "MODEL_VERSION": "v1"})
	if err != nil || !cmp.Equal(s.models, []modelSetting{{"x", "v1", "/m/x-v1.onnx"}}) {
		t.Errorf("from the environment: %+v, %v", s.models, err)
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
	f("a=m.onnx", modelSetting{"a", "", "m.onnx"})
	f("a=m.onnx@v1", modelSetting{"a", "v1", "m.onnx"})
	f("a=models/m@v1.onnx", modelSetting{"a", "", "models/m@v1.onnx"})
	f("a=models/m@v1.onnx@v2", modelSetting{"a", "v2", "models/m@v1.onnx"})
	f("a=host@dir/m.onnx", modelSetting{"a", "", "host@dir/m.onnx"})
	f("a=dir@v1", modelSetting{"a", "v1", "dir"})
	f("m.onnx", modelSetting{"", "", "m.onnx"})
	f("m.onnx@v1", modelSetting{"", "v1", "m.onnx"})
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
	f(`gpu is "on"; want auto or off`, "", "--model", "m.onnx", "--gpu", "on")
	f("queue is -1; want more than 0", "", "--model", "m.onnx", "--queue", "-1")
	f("shutdown-delay is -1s", "", "--model", "m.onnx", "--shutdown-delay", "-1s")
	f(`unknown log level "loud" (have debug`, "", "--model", "m.onnx", "--log-level", "loud")
	f(`"lots" has no known unit`, "", "--model", "m.onnx", "--max-body", "lots")
	f("modles", model+"modles: []\n")
	f("backend.yaml: ", model+"threads: many\n")
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

// TestReference checks that reference.yaml states the defaults and has every key.
func TestReference(t *testing.T) {
	s, err := readFile("reference.yaml")
	if err != nil {
		t.Fatal(err)
	}
	want := defaults()
	want.models = []modelSetting{{"fashion", "v1.0.0", "models/fashion-v1.onnx"}}
	if diff := cmp.Diff(want, s, cmp.AllowUnexported(settings{})); diff != "" {
		t.Errorf("(-defaults +reference):\n%s", diff)
	}
	content, err := os.ReadFile("reference.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, of := range []reflect.Type{reflect.TypeFor[file](), reflect.TypeFor[modelSetting]()} {
		for i := range of.NumField() {
			if key := of.Field(i).Tag.Get("yaml"); !strings.Contains(string(content), key+":") {
				t.Errorf("reference.yaml has no key %s", key)
			}
		}
	}
}
