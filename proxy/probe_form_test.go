package proxy

import (
	"testing"

	"weir/config"
)

func TestFormed(t *testing.T) {
	body := []byte(`{"prediction":3,"label":"boot","sure":true,"none":null,"probabilities":[0.1,0.9],"outputs":[{"data":[[1,2,3],[4,5,6]]},{"data":[[1],[2,3]]},{"data":[]}]}`)
	kind := func(path, word string) config.Form { return config.Form{Path: path, Kind: word} }
	dims := func(path string, d ...int) config.Form { return config.Form{Path: path, Dims: d} }
	for _, c := range []struct {
		form config.Form
		want string // "": it has that shape
	}{
		{kind("prediction", config.FormNumber), ""},
		{kind("label", config.FormString), ""},
		{kind("sure", config.FormBoolean), ""},
		{kind("probabilities", config.FormArray), ""},
		{kind("outputs.0", config.FormObject), ""},
		{kind("prediction", config.FormString), "prediction is number, 3; want string"},
		{kind("none", config.FormObject), "none is null, null; want object"},
		{kind("score", config.FormNumber), "score is absent; want number"},
		{dims("probabilities", 2), ""},
		{dims("probabilities", config.AnyLength), ""},
		{dims("probabilities", 10), "probabilities is an array of 2; want the shape [10]"},
		{dims("prediction", 1), "prediction is number, not an array; want the shape [1]"},
		{dims("probabilities", 2, 1), "probabilities.0 is number, not an array; want the shape [2, 1]"},
		{dims("outputs.0.data", 2, 3), ""},
		{dims("outputs.0.data", config.AnyLength, 3), ""},
		{dims("outputs.0.data", 2, 4), "outputs.0.data.0 is an array of 3; want the shape [2, 4]"},
		{dims("outputs.1.data", config.AnyLength, 1), "outputs.1.data.1 is an array of 2; want the shape [-1, 1]"},
		{dims("outputs.2.data", config.AnyLength, 3), ""}, // there is no row of another length
		{dims("outputs.2.data", 1, 3), "outputs.2.data is an array of 0; want the shape [1, 3]"},
	} {
		got := ""
		if err := formed(body, []config.Form{c.form}); err != nil {
			got = err.Error()
		}
		if got != c.want {
			t.Errorf("%+v: %q, want %q", c.form, got, c.want)
		}
	}
	if err := formed([]byte("<html>"), []config.Form{kind("a", config.FormNumber)}); err == nil {
		t.Error("what is no JSON has the shape")
	}
	if err := formed([]byte("<html>"), nil); err != nil {
		t.Errorf("nothing is asked for: %v", err)
	}
}
