package backend

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"

	"weir/backend/inference"
)

// TestGRPCRepository is the repository extension by calls, with Triton's names.
func TestGRPCRepository(t *testing.T) {
	s := newShelf(t)
	r := start(t, Options{Models: []Source{source("c", "v1", doubler())}, Folder: s.folder(0), Control: true}, true)
	s.write("a", "1", "2")
	s.write("a", "2", "2")
	s.write("b", "1", "nonsense")
	c := r.grpc()
	index := func(ready bool, want ...string) {
		t.Helper()
		got, err := c.RepositoryIndex(patient(t), &inference.RepositoryIndexRequest{Ready: ready})
		if err != nil {
			t.Fatal(err)
		}
		var lines []string
		for _, m := range got.Models {
			lines = append(lines, m.Name+"/"+m.Version+" "+m.State)
		}
		if diff := cmp.Diff(want, lines); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	}
	load := func(name string, parameters map[string]*inference.ModelRepositoryParameter) error {
		_, err := c.RepositoryModelLoad(patient(t), &inference.RepositoryModelLoadRequest{ModelName: name, Parameters: parameters})
		return err
	}
	versions := func(list string) map[string]*inference.ModelRepositoryParameter {
		return map[string]*inference.ModelRepositoryParameter{"versions": {ParameterChoice: &inference.ModelRepositoryParameter_StringParam{StringParam: list}}}
	}
	index(false, "c/v1 READY", "a/2 UNAVAILABLE", "a/1 UNAVAILABLE", "b/1 UNAVAILABLE")
	if err := load("a", versions("1,2")); err != nil {
		t.Fatal(err)
	}
	index(true, "c/v1 READY", "a/1 READY", "a/2 READY")
	if _, err := c.ModelInfer(patient(t), doubled()); err != nil {
		t.Error(err)
	}
	wantStatus(t, load("b", nil), codes.FailedPrecondition, "is no model")
	wantStatus(t, load("d", nil), codes.NotFound, "there is no model d")
	wantStatus(t, load("a", versions("1,,2")), codes.InvalidArgument, "want each version once")
	wantStatus(t, load("a", map[string]*inference.ModelRepositoryParameter{"file:1/model.onnx": {ParameterChoice: &inference.ModelRepositoryParameter_BytesParam{}}}),
		codes.InvalidArgument, "is not understood")
	if _, err := c.RepositoryModelUnload(patient(t), &inference.RepositoryModelUnloadRequest{ModelName: "a",
		Parameters: map[string]*inference.ModelRepositoryParameter{"unload_dependents": {ParameterChoice: &inference.ModelRepositoryParameter_BoolParam{BoolParam: true}}}}); err != nil {
		t.Error(err)
	}
	index(true, "c/v1 READY")
	_, err := c.ModelInfer(patient(t), doubled())
	wantStatus(t, err, codes.NotFound, "there is no model a")

	c = start(t, Options{Models: []Source{source("c", "v1", doubler())}}, true).grpc()
	wantStatus(t, load("c", nil), codes.PermissionDenied, "repository.control: true in the configuration allows it")
	_, err = c.RepositoryModelUnload(patient(t), &inference.RepositoryModelUnloadRequest{ModelName: "c"})
	wantStatus(t, err, codes.PermissionDenied, "repository.control")
}
