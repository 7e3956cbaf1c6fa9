package backend_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"weir/backend"
	"weir/backend/inference"
	"weir/backend/models"
	"weir/backend/onnx"
	"weir/backend/onnx/onnxtest"
	"weir/backend/tensor"
)

// source is a model file to serve by ONNX Runtime.
func source(t *testing.T, name, version, path string) backend.Source {
	t.Helper()
	runtime := onnxtest.Runtime(t)
	return backend.Source{Name: name, Version: version, Path: path, Open: func() (backend.Runner, error) {
		m, warning, err := runtime.Load(path, onnx.Options{})
		if err != nil {
			return nil, err
		}
		if warning != nil {
			t.Error(warning)
		}
		return m, nil
	}}
}

// serve serves the models and returns the base of their URLs.
func serve(t *testing.T, sources ...backend.Source) string {
	t.Helper()
	base, _ := serveBoth(t, sources...)
	return base
}

// serveBoth serves the models over gRPC too, and returns a client of it.
func serveBoth(t *testing.T, sources ...backend.Source) (base string, client inference.GRPCInferenceServiceClient) {
	t.Helper()
	s, err := backend.New(backend.Options{Models: sources})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Load(); err != nil {
		t.Fatal(err)
	}
	ln, grpcLn := listen(t), listen(t)
	served := make(chan error, 2)
	go func() { served <- s.Serve(ln) }()
	go func() { served <- s.ServeGRPC(grpcLn) }()
	conn, err := grpc.NewClient("passthrough:///"+grpcLn.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithNoProxy())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		conn.Close()
		http.DefaultClient.CloseIdleConnections()
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := s.Shutdown(ctx); err != nil {
			t.Error(err)
		}
		for range 2 {
			if err := <-served; err != nil {
				t.Error(err)
			}
		}
	})
	return "http://" + ln.Addr().String(), inference.NewGRPCInferenceServiceClient(conn)
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return ln
}

// post sends a body and returns the answer, which must be 200.
func post(t *testing.T, url string, body []byte, header ...string) (*http.Response, []byte) {
	t.Helper()
	req, err := http.NewRequest(http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Error(err)
		return &http.Response{}, nil
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != 200 {
		t.Errorf("%s: %d %s, %v", url, resp.StatusCode, answer, err)
	}
	return resp, answer
}

type prediction struct {
	Prediction    float64
	Label         string
	Probabilities []float64
	Model         string
	ModelVersion  string  `json:"model_version"`
	LatencyMS     float64 `json:"latency_ms"`
}

func predict(t *testing.T, base string, features any) prediction {
	t.Helper()
	body, err := json.Marshal(map[string]any{"features": features})
	if err != nil {
		t.Fatal(err)
	}
	_, answer := post(t, base+"/predict", body)
	var p prediction
	if err := json.Unmarshal(answer, &p); err != nil {
		t.Errorf("%s: %v", answer, err)
	}
	return p
}

// irises are the first five flowers of each species of Fisher's data set, in the order setosa
// (0), versicolor (1), virginica (2).
func irises() [3][5][4]float64 {
	return [3][5][4]float64{
		{{5.1, 3.5, 1.4, 0.2}, {4.9, 3.0, 1.4, 0.2}, {4.7, 3.2, 1.3, 0.2}, {4.6, 3.1, 1.5, 0.2}, {5.0, 3.6, 1.4, 0.2}},
		{{7.0, 3.2, 4.7, 1.4}, {6.4, 3.2, 4.5, 1.5}, {6.9, 3.1, 4.9, 1.5}, {5.5, 2.3, 4.0, 1.3}, {6.5, 2.8, 4.6, 1.5}},
		{{6.3, 3.3, 6.0, 2.5}, {5.8, 2.7, 5.1, 1.9}, {7.1, 3.0, 5.9, 2.1}, {6.3, 2.9, 5.6, 1.8}, {6.5, 3.0, 5.8, 2.2}},
	}
}

// TestServedIris compares /predict with the known species, and V2 with /predict.
func TestServedIris(t *testing.T) {
	base := serve(t, source(t, "iris", "v1.0.0", "models/iris-forest.onnx"))
	for species, flowers := range irises() {
		for _, flower := range flowers {
			p := predict(t, base, flower)
			if p.Prediction != float64(species) || p.ModelVersion != "v1.0.0" || p.Model != "iris" || p.LatencyMS <= 0 {
				t.Errorf("%v: %+v, want species %d", flower, p, species)
			}
			if len(p.Probabilities) != 3 || p.Probabilities[species] < 0.5 {
				t.Errorf("%v: probabilities %v", flower, p.Probabilities)
			}
		}
	}

	body := `{"inputs":[{"name":"X","shape":[3,4],"datatype":"FP32","data":[[5.1,3.5,1.4,0.2],[7.0,3.2,4.7,1.4],[6.3,3.3,6.0,2.5]]}]}`
	_, answer := post(t, base+"/v2/models/iris/versions/v1.0.0/infer", []byte(body))
	var v2 struct {
		Outputs []struct {
			Name, Datatype string
			Shape          []int64
			Data           []float64
		}
	}
	if err := json.Unmarshal(answer, &v2); err != nil || len(v2.Outputs) != 2 {
		t.Fatalf("%s: %v", answer, err)
	}
	label, probability := v2.Outputs[0], v2.Outputs[1]
	if label.Name != "output_label" || label.Datatype != "INT64" || !cmp.Equal(label.Data, []float64{0, 1, 2}) {
		t.Errorf("the labels are %+v", label)
	}
	if probability.Name != "output_probability" || probability.Datatype != "FP32" || !cmp.Equal(probability.Shape, []int64{3, 3}) {
		t.Errorf("the probabilities are %+v", probability)
	}
	if want := predict(t, base, irises()[1][0]).Probabilities; !cmp.Equal(probability.Data[3:6], want) {
		t.Errorf("V2 gives %v, /predict %v", probability.Data[3:6], want)
	}
}

// TestServedFashion asks every version about the whole labelled sample, one image a request to
// /predict and all in one binary V2 request, and compares with the accuracy that the model's
// metadata states.
func TestServedFashion(t *testing.T) {
	sample, names := models.Sample(), models.Labels()
	for _, m := range []struct{ path, version string }{{"fashion-v1", "v1.0.0"}, {"fashion-v2", "v2.0.0"}, {"fashion-bad", ""}} {
		base := serve(t, source(t, "fashion", "", "models/"+m.path+".onnx"))
		var described struct {
			Versions   []string
			Properties map[string]string
		}
		get(t, base+"/v2/models/fashion", &described)
		if m.version != "" && !cmp.Equal(described.Versions, []string{m.version}) {
			t.Errorf("%s has versions %v, want %s", m.path, described.Versions, m.version)
		}
		stated, err := strconv.ParseFloat(described.Properties["sample_accuracy"], 64)
		if err != nil {
			t.Fatalf("%s states no accuracy: %v", m.path, described.Properties)
		}
		wanted := int(math.Round(stated * float64(len(sample))))

		right := 0
		var pixels []byte
		for _, image := range sample {
			features := image.Features()
			p := predict(t, base, features)
			if p.Label != names[int(p.Prediction)] || len(p.Probabilities) != 10 {
				t.Fatalf("%s: %+v", m.path, p)
			}
			if int(p.Prediction) == image.Label {
				right++
			}
			for _, f := range features {
				pixels = binary.LittleEndian.AppendUint32(pixels, math.Float32bits(f))
			}
		}
		if right != wanted {
			t.Errorf("%s: %d of %d right by /predict; its metadata says %v", m.path, right, len(sample), stated)
		}
		if got := binaryAccuracy(t, base, sample, pixels); got != wanted {
			t.Errorf("%s: %d of %d right by V2 in binary; its metadata says %v", m.path, got, len(sample), stated)
		}
	}
}

func get(t *testing.T, url string, v any) {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(v); err != nil || resp.StatusCode != 200 {
		t.Fatalf("%s: %d, %v", url, resp.StatusCode, err)
	}
}

// binaryAccuracy asks about all images in one request and counts the right answers.
func binaryAccuracy(t *testing.T, base string, sample []models.LabelledImage, pixels []byte) int {
	t.Helper()
	head := fmt.Sprintf(`{"inputs":[{"name":"image","shape":[%d,784],"datatype":"FP32","parameters":{"binary_data_size":%d}}],`+
		`"outputs":[{"name":"label","parameters":{"binary_data":true}}]}`, len(sample), len(pixels))
	resp, answer := post(t, base+"/v2/models/fashion/infer", append([]byte(head), pixels...), "Inference-Header-Content-Length", strconv.Itoa(len(head)))
	n, err := strconv.Atoi(resp.Header.Get("Inference-Header-Content-Length"))
	if err != nil || len(answer)-n != 8*len(sample) {
		t.Fatalf("%d bytes, of which JSON %q", len(answer), resp.Header.Get("Inference-Header-Content-Length"))
	}
	right := 0
	for i, image := range sample {
		if binary.LittleEndian.Uint64(answer[n+8*i:]) == uint64(image.Label) {
			right++
		}
	}
	return right
}

// TestServedTypes sends two elements of every type through ONNX Runtime and back, in JSON and in
// binary. 0 and 1 are what all numbers have in common.
func TestServedTypes(t *testing.T) {
	for _, typ := range tensor.Types() {
		data := "[0,1]"
		raw := tensor.Tensor{Type: typ}
		switch typ {
		case tensor.Bool:
			data = "[false,true]"
		case tensor.Bytes:
			data = `["","grün"]`
		}
		base := serve(t, source(t, "same", "v1", onnxtest.Identity(typ, -1).Write(t)))
		body := fmt.Sprintf(`{"inputs":[{"name":"x","shape":[2],"datatype":"%s","data":%s}]}`, typ, data)
		_, answer := post(t, base+"/v2/models/same/infer", []byte(body))
		want := fmt.Sprintf(`{"model_name":"same","model_version":"v1","outputs":[{"name":"y","datatype":"%s","shape":[2],"data":%s}]}`, typ, data)
		if diff := cmp.Diff(want, string(answer)); diff != "" {
			t.Errorf("%s in JSON (-want +got):\n%s", typ, diff)
		}

		// The same again with what JSON made, in binary both ways.
		if typ == tensor.Bytes {
			raw.Data = tensor.AppendStrings(nil, []string{"\xff\xfe", "two"})
		} else {
			raw.Data = bytes.Repeat([]byte{1, 0}, typ.Size())
		}
		head := fmt.Sprintf(`{"parameters":{"binary_data_output":true},"inputs":[{"name":"x","shape":[2],"datatype":"%s","parameters":{"binary_data_size":%d}}]}`,
			typ, len(raw.Data))
		_, answer = post(t, base+"/v2/models/same/infer", append([]byte(head), raw.Data...), "Inference-Header-Content-Length", strconv.Itoa(len(head)))
		if !bytes.HasSuffix(answer, raw.Data) {
			t.Errorf("%s in binary: %q does not end in %q", typ, answer, raw.Data)
		}
	}
}

// TestServedNaN checks that a NaN in a binary tensor reaches a model and comes back as it was.
func TestServedNaN(t *testing.T) {
	base := serve(t, source(t, "same", "v1", onnxtest.Identity(tensor.FP32, -1).Write(t)))
	raw := binary.LittleEndian.AppendUint32(nil, 0x7fc12345) // a NaN with a payload
	head := `{"parameters":{"binary_data_output":true},"inputs":[{"name":"x","shape":[1],"datatype":"FP32","parameters":{"binary_data_size":4}}]}`
	_, answer := post(t, base+"/v2/models/same/infer", append([]byte(head), raw...), "Inference-Header-Content-Length", strconv.Itoa(len(head)))
	if !bytes.HasSuffix(answer, raw) {
		t.Errorf("got %q", answer)
	}
}

// TestServedSideBySide asks two models by both APIs from many clients at once; each answer must
// be its own question's.
func TestServedSideBySide(t *testing.T) {
	base := serve(t,
		source(t, "iris", "v1", "models/iris-forest.onnx"),
		source(t, "same", "v1", onnxtest.Identity(tensor.Int64, -1).Write(t)),
	)
	flowers := irises()
	var clients sync.WaitGroup
	for c := range 8 {
		clients.Go(func() {
			for i := range 40 {
				species := (c + i) % 3
				if p := predict(t, base, flowers[species][i%5]); p.Prediction != float64(species) {
					t.Errorf("species %d was taken for %v", species, p.Prediction)
				}
				n := strconv.Itoa(1000*c + i)
				body := `{"id":"` + n + `","inputs":[{"name":"x","shape":[1],"datatype":"INT64","data":[` + n + `]}]}`
				_, answer := post(t, base+"/v2/models/same/infer", []byte(body))
				if !strings.Contains(string(answer), `"id":"`+n+`"`) || !strings.Contains(string(answer), `"data":[`+n+`]`) {
					t.Errorf("%s was answered by %s", body, answer)
				}
			}
		})
	}
	clients.Wait()
}
