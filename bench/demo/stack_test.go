package demo

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/encoding/protowire"

	"weir/config"
)

// What the demonstration writes is what weir reads.
func TestConfigIsWhatWeirReads(t *testing.T) {
	s := &stack{dir: t.TempDir(), address: "127.0.0.1:8080", pools: examplePools()}
	if err := s.writeConfig("127.0.0.1:9901"); err != nil {
		t.Fatal(err)
	}
	c, err := config.Load(s.configFile())
	if err != nil {
		t.Fatal(err)
	}
	type seen struct {
		Listener, Admin string
		Pools, Versions []string
		Endpoints       []int
		Probe           string
		Split           []config.Variant
		Affinity        string
	}
	got := seen{Listener: c.Listeners[0].Address, Admin: c.Admin.Address, Split: c.Routes[0].Split}
	for _, p := range c.Pools {
		got.Pools, got.Versions, got.Endpoints = append(got.Pools, p.Name), append(got.Versions, p.Version), append(got.Endpoints, len(p.Endpoints))
		got.Probe = p.Probe.Path
	}
	got.Affinity = c.Routes[0].Affinity.Source + ":" + c.Routes[0].Affinity.Name
	want := seen{
		Listener: "127.0.0.1:8080", Admin: "127.0.0.1:9901",
		Pools: []string{"blue", "green"}, Versions: []string{"v1.0.0", "v2.0.0"}, Endpoints: []int{2, 1},
		Probe: readyPath, Split: []config.Variant{{Pool: "blue", Weight: 90}, {Pool: "green", Weight: 10}},
		Affinity: "header:X-User-ID",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("configuration (-want +got):\n%s", diff)
	}
}

// onnx is a model that holds nothing but metadata.
func onnx(version, accuracy string) []byte {
	model := protowire.AppendVarint(protowire.AppendTag(nil, 1, protowire.VarintType), 10)
	for _, entry := range [][2]string{{"version", version}, {"labels", "[]"}, {"sample_accuracy", accuracy}} {
		var e []byte
		for i, text := range entry {
			e = protowire.AppendString(protowire.AppendTag(e, protowire.Number(i+1), protowire.BytesType), text)
		}
		model = protowire.AppendBytes(protowire.AppendTag(model, modelMetadata, protowire.BytesType), e)
	}
	return model
}

func TestReadModel(t *testing.T) {
	path := filepath.Join(t.TempDir(), "m.onnx")
	read := func(data []byte) (model, error) {
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		return readModel(path)
	}
	good := onnx("v1.0.0", "0.84")
	if got, err := read(good); err != nil || got != (model{path: path, version: "v1.0.0", accuracy: 0.84}) {
		t.Errorf("read as %+v, %v", got, err)
	}
	for name, bad := range map[string][]byte{
		"text": []byte("hello"), "cut short": good[:len(good)-1], "no version": onnx("", "0.84"), "no number": onnx("v1", "good"),
	} {
		if m, err := read(bad); err == nil {
			t.Errorf("%s is read as %+v", name, m)
		}
	}
}
