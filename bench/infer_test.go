package bench

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"strconv"
	"testing"
	"time"
)

// inferServer is a model whose label is the image's first pixel × 255, plus shift.
func inferServer(t *testing.T, shift int64) *httptest.Server {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		first, binaryTensor, err := readInfer(r)
		if err != nil {
			t.Errorf("%s %s: %v", r.Method, r.RequestURI, err)
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		label := int64(math.Round(float64(first)*255)) + shift
		w.Header().Set("X-Weir-Variant", "blue")
		if !binaryTensor {
			fmt.Fprintf(w, `{"model_name":"fashion","outputs":[{"name":"label","shape":[1],"datatype":"INT64","data":[%d]}]}`, label)
			return
		}
		head := `{"outputs":[{"name":"label","shape":[1],"datatype":"INT64","parameters":{"binary_data_size":8}}]}`
		w.Header().Set("Inference-Header-Content-Length", strconv.Itoa(len(head)))
		_, _ = w.Write(binary.LittleEndian.AppendUint64([]byte(head), uint64(label)))
	}))
	t.Cleanup(s.Close)
	return s
}

// readInfer reads a request for one image of six pixels, strictly, and returns its first pixel.
func readInfer(r *http.Request) (first float32, binaryTensor bool, err error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return 0, false, err
	}
	if r.Method != "POST" || r.URL.Path != "/v2/models/fashion/infer" {
		return 0, false, fmt.Errorf("unexpected request")
	}
	tensor := []byte(nil)
	if n := r.Header.Get("Inference-Header-Content-Length"); n != "" {
		size, err := strconv.Atoi(n)
		if err != nil || size > len(body) {
			return 0, false, fmt.Errorf("JSON head of %q bytes", n)
		}
		body, tensor, binaryTensor = body[:size], body[size:], true
	}
	var request struct {
		Inputs []struct {
			Name, Datatype string
			Shape          []int
			Data           []float32
			Parameters     map[string]int
		}
		Outputs []struct{ Name string }
	}
	if err := json.Unmarshal(body, &request); err != nil {
		return 0, false, err
	}
	in := request.Inputs[0]
	if in.Name != "image" || in.Datatype != "FP32" || len(in.Shape) != 2 || in.Shape[0] != 1 || in.Shape[1] != 6 || request.Outputs[0].Name != "label" {
		return 0, false, fmt.Errorf("request is %s", body)
	}
	if !binaryTensor {
		if len(in.Data) != 6 {
			return 0, false, fmt.Errorf("%d numbers", len(in.Data))
		}
		return in.Data[0], false, nil
	}
	if len(tensor) != 24 || in.Parameters["binary_data_size"] != 24 {
		return 0, false, fmt.Errorf("%d bytes of tensor, %v announced", len(tensor), in.Parameters)
	}
	return math.Float32frombits(binary.LittleEndian.Uint32(tensor)), true, nil
}

func TestInferJudgesAnswers(t *testing.T) {
	images := []Image{
		{Pixels: []byte{3, 0, 0, 0, 0, 255}, Label: 3},
		{Pixels: []byte{7, 1, 2, 3, 4, 5}, Label: 7},
	}
	for _, tt := range []struct {
		binary bool
		shift  int64
		right  uint64
	}{{false, 0, 40}, {true, 0, 40}, {false, 1, 0}, {true, -1, 0}} {
		s := inferServer(t, tt.shift)
		target, err := NewInfer(Request{URL: s.URL, Users: 5}, "fashion", images, tt.binary)
		if err != nil {
			t.Fatal(err)
		}
		a := attack(t, Options{Address: target.Address(), Target: target, Pacer: Constant(1000), Duration: 40 * time.Millisecond, Connections: 2})
		if err := a.Run(context.Background()); err != nil {
			t.Fatal(err)
		}
		total := a.Take().Total()
		if total.OK != 40 || total.Judged != 40 || total.Right != tt.right {
			t.Errorf("binary %v, shift %d: ok %d, judged %d, right %d; want 40, 40, %d", tt.binary, tt.shift, total.OK, total.Judged, total.Right, tt.right)
		}
	}
}

func TestInferUnreadableAnswers(t *testing.T) {
	target, err := NewInfer(Request{URL: "http://127.0.0.1:1"}, "fashion", []Image{{Pixels: []byte{1}, Label: 1}}, false)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range []Response{
		{Body: []byte(`hello`)},
		{Body: []byte(`{}`)},
		{Body: []byte(`{"outputs":[{"name":"probabilities","data":[1]}]}`)},
		{Body: []byte(`{"outputs":[{"name":"label","datatype":"INT64","data":[]}]}`)},
		{Body: []byte(`{"outputs":[{"name":"label","datatype":"INT64","data":[1,1]}]}`)},
		{Body: []byte(`{"outputs":[{"name":"label","datatype":"INT64","data":[1.5]}]}`)},
		{Body: []byte(`{}`), InferHeader: 3},
		{Body: []byte(`{"outputs":[{"name":"label","datatype":"INT64","parameters":{"binary_data_size":8}}]}`)},
	} {
		if got := target.Judge(Hit{Label: 1}, &r); got != Unreadable {
			t.Errorf("%s is judged %d, want unreadable", r.Body, got)
		}
	}
}

// An answer that is not what was promised counts as an error.
func TestBadAnswerIsAFailure(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "hello") }))
	defer s.Close()
	target, err := NewInfer(Request{URL: s.URL}, "fashion", []Image{{Pixels: []byte{1}, Label: 1}}, false)
	if err != nil {
		t.Fatal(err)
	}
	a := attack(t, Options{Address: target.Address(), Target: target, Pacer: Constant(1000), Duration: 10 * time.Millisecond})
	if err := a.Run(context.Background()); err != nil {
		t.Fatal(err)
	}
	if total := a.Take().Total(); total.Failures[BadAnswer] != 10 || total.OK != 0 || total.Judged != 0 {
		t.Errorf("bad answers %d, ok %d, judged %d; want 10, 0, 0", total.Failures[BadAnswer], total.OK, total.Judged)
	}
}
