package pipeline

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const (
	atBlue  = "100/0 100/0"
	atGreen = "0/100 0/100"
	fresh   = "example/ml-api@sha256:new"
)

// TestDeployments goes through the life of a deployment: the first, one that is worse, one that is taken back after it
// had succeeded, one that stays, and an operator who goes back.
func TestDeployments(t *testing.T) {
	c := newCluster(t)

	// Nothing is deployed: both colours get the image, and there is nothing to roll out.
	c.step("look")
	c.step("backup")
	c.step("deploy")
	if out := c.step("start") + c.step("wait") + c.step("settle"); !strings.Contains(out, "the first deployment") {
		t.Errorf("the first deployment is not told as one: %s", out)
	}
	c.has(atBlue, fresh, fresh, "    version: v3.0.0 # pipeline: version of blue", "    version: v3.0.0 # pipeline: version of green")
	if out, err := c.run("docker/pipeline/pipeline.sh", "undo"); err == nil {
		t.Errorf("the first deployment was undone, to nothing: %s", out)
	}

	// Now two versions, of which blue serves.
	c.write("image-blue", "example/ml-api:v1")
	c.write("image-green", "example/ml-api:v2")
	before := strings.NewReplacer("v3.0.0 # pipeline: version of blue", "v1.0.0 # pipeline: version of blue",
		"v3.0.0 # pipeline: version of green", "v2.0.0 # pipeline: version of green").Replace(c.read("weir.yaml"))
	if err := os.WriteFile(filepath.Join(c.folder, "weir.yaml"), []byte(before), 0o600); err != nil {
		t.Fatal(err)
	}
	begin := func() {
		t.Helper()
		if out := c.step("look"); !strings.Contains(out, "blue serves, v1.0.0; green is the one to deploy to") {
			t.Errorf("look: %s", out)
		}
		c.step("backup")
		for _, name := range []string{"backup/objects.yaml", "backup/weir-1.snapshot", "backup/weir-2.snapshot", "backup/weir-1.generation"} {
			if c.read("out/"+name) == "" {
				t.Errorf("%s is empty", name)
			}
		}
		c.step("deploy")
		c.has(atBlue, "example/ml-api:v1", fresh, "    version: v1.0.0 # pipeline: version of blue", "    version: v3.0.0 # pipeline: version of green",
			"    split: {blue: 100, green: 0} # pipeline: split")
		c.step("start")
	}
	asBefore := func() {
		t.Helper()
		c.has(atBlue, "example/ml-api:v1", "example/ml-api:v2", "    version: v1.0.0 # pipeline: version of blue",
			"    version: v2.0.0 # pipeline: version of green", "    split: {blue: 100, green: 0} # pipeline: split")
	}

	c.broken.Store(true) // one that does not pass its checks
	begin()
	if out, err := c.run("docker/pipeline/pipeline.sh", "wait"); err == nil || !strings.Contains(out, "has not succeeded everywhere") {
		t.Fatalf("a version that fails its checks was waited for: %v\n%s", err, out)
	}
	c.step("undo")
	asBefore()
	c.broken.Store(false)

	begin() // one that succeeds, and then fails its smoke test
	c.step("wait")
	if got := c.weights(); got != atGreen {
		t.Errorf("after the rollout the weights are %s", got)
	}
	c.step("undo")
	asBefore()

	begin() // one that stays
	c.step("wait")
	for _, at := range c.clients {
		if out, err := c.run("docker/pipeline/smoke.sh", "http://"+at); err != nil {
			t.Errorf("smoke.sh: %v\n%s", err, out)
		}
	}
	c.step("settle")
	c.has(atGreen, "example/ml-api:v1", fresh, "    version: v3.0.0 # pipeline: version of green", "    split: {blue: 0, green: 100} # pipeline: split")
	if out := c.step("look"); !strings.Contains(out, "green serves, v3.0.0; blue is the one to deploy to") {
		t.Errorf("look: %s", out)
	}

	if out, err := c.run("docker/kubernetes/rollback.sh", "staging", "blue"); err != nil {
		t.Errorf("rollback.sh: %v\n%s", err, out)
	}
	c.has(atBlue, "example/ml-api:v1", "example/ml-api:v2", "    split: {blue: 100, green: 0} # pipeline: split")
}
