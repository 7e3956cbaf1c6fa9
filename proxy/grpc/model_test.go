package grpc

import (
	"bytes"
	"encoding/binary"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"weir/backend/inference"
)

func framed(flag byte, message []byte) []byte {
	return append(binary.BigEndian.AppendUint32([]byte{flag}, uint32(len(message))), message...)
}

// readModel reads all of body at once.
func readModel(body []byte) (name, version []byte, more bool) { return new(ModelReader).Read(body) }

// TestModelReader: out of what generated code writes, however little of it there is.
func TestModelReader(t *testing.T) {
	infer := &inference.ModelInferRequest{
		ModelName: "fashion", ModelVersion: "2", Id: strings.Repeat("i", 300),
		Inputs:           []*inference.ModelInferRequest_InferInputTensor{{Name: "x", Datatype: "FP32", Shape: []int64{1, 784}}},
		RawInputContents: [][]byte{make([]byte, 3136)},
	}
	for _, c := range []struct {
		m             proto.Message
		name, version string
		enough        int // bytes of the body after which the answer is known
	}{
		{infer, "fashion", "2", 5 + 9 + 3 + 1},
		{&inference.ModelInferRequest{ModelName: "fashion", Id: "i"}, "fashion", "", 5 + 9 + 1},
		{&inference.ModelMetadataRequest{Name: "a", Version: "v1"}, "a", "v1", 5 + 3 + 4},
		{&inference.ModelReadyRequest{Name: "a"}, "a", "", 5 + 3},
		{&inference.ModelReadyRequest{}, "", "", 5},
		{&inference.ModelReadyRequest{Version: "3"}, "", "3", 5 + 3},
	} {
		message, err := proto.Marshal(c.m)
		if err != nil {
			t.Fatal(err)
		}
		body := framed(0, message)
		var growing ModelReader
		for n := range len(body) + 1 {
			name, version, more := readModel(body[:n])
			if n, v, m := growing.Read(bytes.Clone(body[:n])); string(n) != string(name) || string(v) != string(version) || m != more {
				t.Fatalf("%T, %d bytes one after the other: %q, %q, more %v; want %q, %q, %v", c.m, len(body), n, v, m, name, version, more)
			}
			if more != (n < c.enough) || !more && (string(name) != c.name || string(version) != c.version) {
				t.Fatalf("%T, %d of %d bytes: %q, %q, more %v", c.m, n, len(body), name, version, more)
			}
		}
		// What follows is another message.
		if name, version, more := readModel(append(body, 0, 0, 0, 0, 9)); more || string(name) != c.name || string(version) != c.version {
			t.Errorf("%T: %q, %q, %v", c.m, name, version, more)
		}
		if name, _, more := readModel(framed(1, message)); name != nil || more {
			t.Errorf("compressed: %q, %v", name, more)
		}
	}
	// Fields in another order, and of other kinds than they should be.
	b := protowire.AppendBytes(protowire.AppendTag(nil, 7, protowire.BytesType), make([]byte, 100))
	b = protowire.AppendString(protowire.AppendTag(b, 1, protowire.BytesType), "late")
	if name, _, more := readModel(framed(0, b)); string(name) != "late" || more {
		t.Errorf("%q, %v", name, more)
	}
	b = protowire.AppendVarint(protowire.AppendTag(nil, 1, protowire.VarintType), 5)
	if name, _, more := readModel(framed(0, b)); name != nil || more {
		t.Errorf("%q, %v", name, more)
	}
	for _, bad := range []string{"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", "\x0a\x05abc", "\x00\x00", "\x0c", "\x0b\x0c\x0a\x01a"} {
		if name, _, more := readModel(framed(0, []byte(bad))); len(name) > 0 || more {
			t.Errorf("%q: %q, %v", bad, name, more)
		}
	}
}

// TestModelReaderIsLinear: a body that comes byte by byte and never says what is looked for costs no more than its
// length. It is looked into before anybody has asked who sends it.
func TestModelReaderIsLinear(t *testing.T) {
	const size = 1 << 20
	body := append(framed(0, nil)[:1], 0xff, 0xff, 0xff, 0xff)
	for len(body) < size {
		body = append(body, 7<<3|byte(protowire.VarintType), 1)
	}
	var r ModelReader
	for n := range body {
		before := r.at
		if _, _, more := r.Read(body[:n]); !more {
			t.Fatalf("%d bytes were enough", n)
		}
		if r.at-before > 2 || 5+r.at < n-1 {
			t.Fatalf("of %d bytes %d were read, after %d", n, r.at, before)
		}
	}
}

func FuzzModelReader(f *testing.F) {
	f.Add([]byte("\x00\x00\x00\x00\x0c\x0a\x07fashion\x12\x012"))
	f.Fuzz(func(t *testing.T, body []byte) {
		name, version, more := readModel(body)
		if more {
			return
		}
		if again, v, _ := readModel(append(body[:len(body):len(body)], 1, 2, 3)); string(again) != string(name) || string(v) != string(version) {
			t.Errorf("%q, %q; with more behind it %q, %q", name, version, again, v)
		}
	})
}

func TestNamesModel(t *testing.T) {
	for path, want := range map[string]bool{
		"/inference.GRPCInferenceService/ModelInfer": true, "/inference.GRPCInferenceService/ModelReady": true,
		"/inference.GRPCInferenceService/ServerLive": false, "/inference.GRPCInferenceService/": false, "/ModelInfer": false, "": false,
		"/inference.GRPCInferenceService/RepositoryModelLoad": false,
	} {
		if NamesModel([]byte(path)) != want {
			t.Errorf("%s: %v", path, !want)
		}
	}
}
