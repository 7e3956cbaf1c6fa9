package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestDriftOfTheProgram starts the program with a file of references, and finds a drift from it: the
// reference says that the forest is unsure, and it is not.
func TestDriftOfTheProgram(t *testing.T) {
	dir := t.TempDir()
	references := `{"references": [{"model": "iris", "model_version": "v1", "distribution": {"scale": "unit", "counts": {"40": 300, "50": 300}}}]}`
	file := fmt.Sprintf("models: [{name: iris, version: v1, path: %q}]\ndrift: {references: references.json, least: 100, first: 100}\n", absolute(t, iris))
	for name, content := range map[string]string{"references.json": references, "backend.yaml": file} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	p := start(t, nil, "-c", filepath.Join(dir, "backend.yaml"))
	base := p.base()
	row := "[5.1,3.5,1.4,0.2]"
	body := `{"inputs":[{"name":"` + inputOf(t, base) + `","datatype":"FP32","shape":[100,4],"data":[` + strings.TrimSuffix(strings.Repeat(row+",", 100), ",") + `]}]}`
	for range 2 { // the features' reference, and their window
		if status, _, answer := ask(t, "POST", base+"/v2/models/iris/infer", body); status != 200 {
			t.Fatalf("%d %v", status, answer)
		}
	}
	metrics := text(t, base+"/metrics")
	if line := `ml_drift_detected{against="reference",model="iris",model_version="v1"} 1`; !strings.Contains(metrics, line) {
		t.Errorf("the metrics have no line %s", line)
	}
	if n := strings.Count(metrics, `ml_drift_feature_detected{against="reference",feature_name="`); n != 4 {
		t.Errorf("the metrics tell of %d features, want those of an iris", n)
	}
	page, err := os.ReadFile("../../docs/drift.md")
	if err != nil {
		t.Fatal(err)
	}
	names := regexp.MustCompile(`\bml_[a-z_]+[a-z]`).FindAllString(string(page), -1)
	if len(names) < 7 {
		t.Errorf("the page names %d metrics", len(names))
	}
	for _, name := range names {
		if !strings.Contains(metrics, "# HELP "+name+" ") {
			t.Errorf("the page names %s, which the metrics do not have", name)
		}
	}
	for _, b := range regexp.MustCompile("(?ms)^```yaml\n(.*?)^```").FindAllStringSubmatch(string(page), -1) {
		if _, err := gather(t, []string{"--model", "m.onnx"}, b[1], nil); err != nil {
			t.Errorf("%v:\n%s", err, b[1])
		}
	}
	if status, message := start(t, nil, "--model", "iris="+iris, "--drift-references", filepath.Join(dir, "backend.yaml")).wait(); status != 1 || !strings.Contains(message, `want {"references"`) {
		t.Errorf("with a file that holds no references: %d %s", status, message)
	}
}

func absolute(t *testing.T, path string) string {
	t.Helper()
	full, err := filepath.Abs(path)
	if err != nil {
		t.Fatal(err)
	}
	return full
}

// inputOf is the name of the model's input.
func inputOf(t *testing.T, base string) string {
	t.Helper()
	_, _, model := ask(t, "GET", base+"/v2/models/iris", "")
	return model["inputs"].([]any)[0].(map[string]any)["name"].(string)
}
