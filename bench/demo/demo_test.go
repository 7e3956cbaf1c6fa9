package demo

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"math"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protowire"

	"weir/bench"
)

// TestMain makes the test binary play weir and weir-backend when it is called by those names.
// misbehave holds what they do wrong.
func TestMain(m *testing.M) {
	switch filepath.Base(os.Args[0]) {
	case "weir":
		fakeWeir(os.Getenv(misbehave))
	case "weir-backend":
		fakeBackend(os.Getenv(misbehave))
	default:
		os.Exit(m.Run())
	}
}

const misbehave = "WEIR_TEST_MISBEHAVE"

// flagValue returns the value of a flag of the fakes.
func flagValue(name string) string {
	for i, arg := range os.Args[:len(os.Args)-1] {
		if arg == name {
			return os.Args[i+1]
		}
	}
	return ""
}

func untilTerminated() {
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM)
	<-stop
}

func must(err error) {
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
}

// fakeBackend answers with the last digit of the image's first pixel, which is its label. Like
// its model promises, v1 errs on pixels below 16 and v2 below 13, of 100.
func fakeBackend(wrong string) {
	if wrong == "backend ends" {
		fmt.Println("no ONNX Runtime")
		os.Exit(3)
	}
	errsBelow := 16
	if flagValue("--version") == "v2.0.0" {
		errsBelow = 13
	}
	if wrong == "accuracy" {
		errsBelow = 60
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+readyPath, func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("POST /v2/models/fashion/infer", func(w http.ResponseWriter, r *http.Request) {
		var in struct{ Inputs []struct{ Data []float64 } }
		if err := json.NewDecoder(r.Body).Decode(&in); err != nil || len(in.Inputs) != 1 {
			http.Error(w, "bad request", http.StatusBadRequest)
			return
		}
		pixel := int(math.Round(in.Inputs[0].Data[0] * 255))
		label := pixel % 10
		if pixel < errsBelow {
			label = 10
		}
		fmt.Fprintf(w, `{"outputs":[{"name":"label","datatype":"INT64","shape":[1],"data":[%d]}]}`, label)
	})
	ln, err := net.Listen("tcp", flagValue("--listen"))
	must(err)
	go func() { must(http.Serve(ln, mux)) }()
	must(os.WriteFile(flagValue("--port-file"), fmt.Appendf(nil, "%d\n", ln.Addr().(*net.TCPAddr).Port), 0o600))
	untilTerminated()
}

// fakeWeir splits by a hash of the user, as its weir.yaml and its admin API say.
func fakeWeir(wrong string) {
	text, err := os.ReadFile(flagValue("-c"))
	must(err)
	addresses := regexp.MustCompile(`address: "([^"]+)"`).FindAllStringSubmatch(string(text), -1)
	endpoints := regexp.MustCompile(`endpoints: \["([^"]+)"`).FindAllStringSubmatch(string(text), -1)
	f := &fakeRoute{wrong: wrong, green: 10, generation: 1}
	for _, e := range endpoints {
		u, err := url.Parse("http://" + e[1])
		must(err)
		f.pools = append(f.pools, httputil.NewSingleHostReverseProxy(u))
	}
	admin := http.NewServeMux()
	admin.HandleFunc("GET /health/ready", func(http.ResponseWriter, *http.Request) {})
	admin.HandleFunc("GET /api/v1/routes/predict", f.state)
	admin.HandleFunc("PUT /api/v1/routes/predict/weights", f.set)
	for i, handler := range []http.Handler{f, admin} {
		ln, err := net.Listen("tcp", addresses[i][1])
		must(err)
		go func() { must(http.Serve(ln, handler)) }()
	}
	untilTerminated()
}

type fakeRoute struct {
	wrong string
	pools []*httputil.ReverseProxy

	mu         sync.Mutex
	green      float64 // percent
	generation int
	requests   int
}

func (f *fakeRoute) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := fnv.New64a()
	_, _ = io.WriteString(h, r.Header.Get(bench.UserHeader)+"salt")
	f.mu.Lock()
	f.requests++
	n, green := f.requests, f.green
	f.mu.Unlock()
	bucket := float64(h.Sum64()>>20%1000) / 10
	pool, name := 0, "blue"
	switch {
	case f.wrong == "share":
		green = 40
	case f.wrong == "moves" && n%2 == 0:
		bucket = 0
	case f.wrong == "errors" && n%100 == 7:
		w.WriteHeader(http.StatusBadGateway)
		return
	case f.wrong == "weir ends" && n == 100:
		fmt.Println("out of memory")
		os.Exit(4)
	}
	if bucket < green {
		pool, name = 1, "green"
	}
	w.Header().Set("X-Weir-Variant", name)
	f.pools[pool].ServeHTTP(w, r)
}

func (f *fakeRoute) state(w http.ResponseWriter, _ *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	fmt.Fprintf(w, `{"name":"predict","generation":%d,"variants":[{"pool":"blue","version":"v1.0.0","weight":%g},{"pool":"green","version":"v2.0.0","weight":%g}]}`,
		f.generation, 100-f.green, f.green)
}

func (f *fakeRoute) set(w http.ResponseWriter, r *http.Request) {
	var in struct{ Weights map[string]float64 }
	if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
		http.Error(w, err.Error(), http.StatusUnprocessableEntity)
		return
	}
	f.mu.Lock()
	f.green = in.Weights["green"]
	f.generation++
	f.mu.Unlock()
	f.state(w, r)
}

// options makes a folder of fake programs and models for a demonstration.
func options(t *testing.T) (Options, *bytes.Buffer) {
	t.Helper()
	dir := t.TempDir()
	t.Setenv("TMPDIR", dir)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, program := range []string{"weir", "weir-backend"} {
		if err := os.Symlink(self, filepath.Join(dir, program)); err != nil {
			t.Fatal(err)
		}
	}
	images, labels := []byte{0, 0, 8, 3, 0, 0, 0, 100, 0, 0, 0, 1, 0, 0, 0, 1}, []byte{0, 0, 8, 1, 0, 0, 0, 100}
	for i := range 100 {
		images, labels = append(images, byte(i)), append(labels, byte(i%10))
	}
	write(t, dir, sampleImages, gzipped(t, images))
	write(t, dir, sampleLabels, gzipped(t, labels))
	write(t, dir, blueModel, onnx("v1.0.0", "0.84"))
	write(t, dir, greenModel, onnx("v2.0.0", "0.87"))
	var out bytes.Buffer
	return Options{
		Programs: dir, Models: dir, Rate: 1000, Users: 300, Seed: 1, Duration: 1200 * time.Millisecond, Tour: true, tick: 100 * time.Millisecond,
		Out: &out, Width: func() int { return 0 }, Command: "bin/weir",
	}, &out
}

func write(t *testing.T, dir, name string, data []byte) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
		t.Fatal(err)
	}
}

func gzipped(t *testing.T, data []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	if _, err := z.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// onnx is a model that holds nothing but metadata.
func onnx(version, accuracy string) []byte {
	model := protowire.AppendVarint(protowire.AppendTag(nil, 1, protowire.VarintType), 10)
	for _, entry := range [][2]string{{"version", version}, {"labels", "[]"}, {"sample_accuracy", accuracy}} {
		var e []byte
		for i, text := range entry {
			e = protowire.AppendString(protowire.AppendTag(e, protowire.Number(i+1), protowire.BytesType), text)
		}
		model = protowire.AppendBytes(protowire.AppendTag(model, 14, protowire.BytesType), e)
	}
	return model
}

// leftOver fails when programs run on, or files stay, after a demonstration that went well.
func leftOver(t *testing.T, o Options) {
	t.Helper()
	stats, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range stats {
		if cmdline, err := os.ReadFile(name); err == nil && strings.HasPrefix(string(cmdline), o.Programs) {
			t.Errorf("%s still runs: %q", name, cmdline)
		}
	}
	if dirs, _ := filepath.Glob(filepath.Join(os.TempDir(), "weir-demo-*")); len(dirs) > 0 && !t.Failed() {
		t.Errorf("%v is left over", dirs)
	}
}

func TestDemoEndsWithoutProblems(t *testing.T) {
	o, out := options(t)
	if err := Run(context.Background(), o); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	leftOver(t, o)
	for _, want := range []string{
		"starting blue: model fashion v1.0.0, 2 processes", "the weights are now blue=50 green=50",
		"at blue=90 green=10:", "at blue=50 green=50:", " 0 failed", "everything is stopped",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the output lacks %q", want)
		}
	}
	if strings.Contains(out.String(), "\x1b") {
		t.Error("there are terminal sequences in what is no terminal")
	}
	if t.Failed() {
		t.Log(out)
	}
}

func TestDemoFindsProblems(t *testing.T) {
	for wrong, want := range map[string]string{
		"share":        "the split does not follow the weights blue=90 green=10",
		"moves":        "changed variant while the weights were",
		"errors":       "requests failed: 502 ",
		"accuracy":     "but its model says 84.0%",
		"backend ends": "no ONNX Runtime",
		"weir ends":    "out of memory",
	} {
		t.Run(wrong, func(t *testing.T) {
			o, out := options(t)
			o.Duration = 600 * time.Millisecond
			t.Setenv(misbehave, wrong)
			err := Run(context.Background(), o)
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("error %v, want one with %q\n%s", err, want, out)
			}
			if verdict := errors.Is(err, ErrVerdict); verdict != !strings.HasSuffix(wrong, "ends") {
				t.Errorf("%v: is a verdict: %v", err, verdict)
			}
			if dirs, _ := filepath.Glob(filepath.Join(os.TempDir(), "weir-demo-*", "*.log")); len(dirs) == 0 {
				t.Error("the logs are gone")
			}
		})
	}
}

func TestDemoStopsWhenInterrupted(t *testing.T) {
	o, out := options(t)
	o.Duration, o.Tour, o.Terminal, o.Color = 0, false, true, true
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if err := Run(ctx, o); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	leftOver(t, o)
	for _, want := range []string{clearRest, bold + "weir: two versions", "bin/weir shift predict blue=50 green=50", "Ctrl-C stops everything", "everything is stopped"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the output lacks %q:\n%s", want, out)
		}
	}
}

func TestDemoInterruptedWhileStarting(t *testing.T) {
	o, out := options(t)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := Run(ctx, o); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	leftOver(t, o)
}

func TestDemoSaysWhatIsMissing(t *testing.T) {
	for name, want := range map[string]string{"weir": "make build", blueModel: "--models", sampleLabels: sampleLabels} {
		o, _ := options(t)
		if err := os.Remove(filepath.Join(o.Programs, name)); err != nil {
			t.Fatal(err)
		}
		if err := Run(context.Background(), o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("without %s: %v, want an error with %q", name, err, want)
		}
	}
}

func TestMetadataRefusesWhatIsNoModel(t *testing.T) {
	good := onnx("v1", "0.5")
	for _, bad := range [][]byte{[]byte("hello"), good[:len(good)-1]} {
		if meta, err := metadata(bad); err == nil {
			t.Errorf("%q has metadata %q", bad, meta)
		}
	}
	dir := t.TempDir()
	for version, accuracy := range map[string]string{"v1": "good", "": "0.5"} {
		write(t, dir, "m.onnx", onnx(version, accuracy))
		if m, err := readModel(filepath.Join(dir, "m.onnx")); err == nil {
			t.Errorf("version %q, accuracy %q is read as %+v", version, accuracy, m)
		}
	}
}
