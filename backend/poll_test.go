package backend

import (
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// TestPoll follows a folder: versions and models that come, go and change, and files that are no models.
func TestPoll(t *testing.T) {
	s := newShelf(t, "a/1")
	r := start(t, Options{Folder: s.folder(0), Control: true}, true)
	g := r.server.registry
	loads := func() int {
		s.mu.Lock()
		defer s.mu.Unlock()
		return len(s.loaded)
	}
	g.poll()
	if n := loads(); n != 1 {
		t.Errorf("what had not changed was loaded again: %d loads", n)
	}
	s.write("a", "2", "2")
	s.write("b", "1", "2")
	g.poll()
	r.wantIndex("a/2 READY", "a/1 UNAVAILABLE unloaded", "b/1 READY")
	s.write("a", "2", "22") // changes its size, as clocks of file systems are coarse
	before := loads()
	g.poll()
	if n := loads(); n != before+1 {
		t.Errorf("a changed file led to %d loads", n-before)
	}
	s.write("a", "3", "nonsense")
	g.poll()
	g.poll()
	r.wantMetric(`ml_model_loads_total{model="a",result="failure"} 1`) // and is not tried again
	if got := r.post("/v2/models/a/infer", inferBody); got.header.Get(versionHeader) != "2" {
		t.Errorf("%d %s", got.status, got.body)
	}
	s.write("a", "3", "2")
	g.poll()
	if got := r.post("/v2/models/a/infer", inferBody); got.header.Get(versionHeader) != "3" {
		t.Errorf("%d %s", got.status, got.body)
	}
	if err := os.RemoveAll(filepath.Join(s.path, "b")); err != nil {
		t.Fatal(err)
	}
	g.poll()
	wantError(t, r.post("/v2/models/b/infer", inferBody), 404, "there is no model b")
	// What the API has decided stays: a version, and that there is none.
	r.post("/v2/repository/models/a/load", `{"parameters":{"versions":"2"}}`)
	g.poll()
	r.wantIndex("a/2 READY", "a/3 UNAVAILABLE unloaded", "a/1 UNAVAILABLE unloaded")
	r.post("/v2/repository/models/a/unload", "")
	g.poll()
	r.wantIndex("a/3 UNAVAILABLE unloaded", "a/2 UNAVAILABLE unloaded", "a/1 UNAVAILABLE unloaded")
	if n := s.stillOpen(); n != 0 {
		t.Errorf("%d models are open", n)
	}
	// A folder that cannot be read changes nothing.
	r.post("/v2/repository/models/a/load", "")
	if err := os.Rename(s.path, s.path+"x"); err != nil {
		t.Fatal(err)
	}
	g.poll()
	if got := r.post("/v2/models/a/infer", inferBody); got.status != 200 {
		t.Errorf("%d %s", got.status, got.body)
	}
}

// TestPollWhileServing lets the server itself look.
func TestPollWhileServing(t *testing.T) {
	s := newShelf(t, "a/1")
	folder := s.folder(0)
	folder.Poll = 5 * time.Millisecond
	r := start(t, Options{Folder: folder}, true)
	s.write("a", "2", "2")
	for deadline := time.Now().Add(20 * time.Second); ; {
		got := r.post("/v2/models/a/infer", inferBody)
		if got.status != http.StatusOK {
			t.Fatalf("%d %s", got.status, got.body)
		}
		if got.header.Get(versionHeader) == "2" {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the new version was never served")
		}
	}
}

func TestCompareVersions(t *testing.T) {
	for _, ordered := range [][]string{
		{"1", "2", "10", "11"}, {"v1", "v2", "v10"}, {"v1.9.0", "v1.10.0", "v1.10.1", "v2.0.0"},
		{"2024-01-31", "2024-02-01", "2024-11-01"}, {"1", "1.1"}, {"99999999999999999998", "99999999999999999999"}, {"a", "b"},
	} {
		for i, a := range ordered {
			for k, b := range ordered {
				if got := compareVersions(a, b); (got < 0) != (i < k) || (got > 0) != (i > k) {
					t.Errorf("%s and %s: %d", a, b, got)
				}
			}
		}
	}
}
