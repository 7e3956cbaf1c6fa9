package proxy

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/tidwall/gjson"

	"weir/config"
)

// formed returns what contradicts the shapes in a JSON body: the first field that has another, with what it has.
func formed(body []byte, forms []config.Form) error {
	if len(forms) == 0 {
		return nil
	}
	if !gjson.ValidBytes(body) {
		return errors.New("the body of the answer is no JSON")
	}
	root := gjson.ParseBytes(body)
	for _, f := range forms {
		found := root.Get(jsonPath(f.Path))
		want := f.Kind
		if want == "" {
			want = dimensions(f.Dims)
		}
		switch {
		case !found.Exists():
			return fmt.Errorf("%s is absent; want %s", f.Path, want)
		case f.Kind != "" && kindOf(found) != f.Kind:
			return fmt.Errorf("%s is %s, %s; want %s", f.Path, kindOf(found), clipJSON(found.Raw), want)
		case f.Kind != "":
			continue
		}
		if at, is := misfit(found, f.Dims, nil); is != "" {
			return fmt.Errorf("%s%s is %s; want the shape %s", f.Path, at, is, want)
		}
	}
	return nil
}

// misfit is the first place, depth first, where an array is of another length, or is none; "" where all fit.
func misfit(v gjson.Result, dims []int, above []int) (at, is string) {
	if len(dims) == 0 {
		return "", ""
	}
	place := ""
	for _, i := range above {
		place += "." + strconv.Itoa(i)
	}
	if !v.IsArray() {
		return place, kindOf(v) + ", not an array"
	}
	items := v.Array()
	if dims[0] != config.AnyLength && len(items) != dims[0] {
		return place, fmt.Sprintf("an array of %d", len(items))
	}
	if len(dims) == 1 {
		return "", ""
	}
	for i, item := range items {
		if at, is := misfit(item, dims[1:], append(slices.Clone(above), i)); is != "" {
			return at, is
		}
	}
	return "", ""
}

// dimensions writes them as a file has them.
func dimensions(dims []int) string {
	var s []string
	for _, d := range dims {
		s = append(s, strconv.Itoa(d))
	}
	return "[" + strings.Join(s, ", ") + "]"
}

// kindOf is the word of config for what a value is, or null.
func kindOf(v gjson.Result) string {
	switch {
	case v.IsArray():
		return config.FormArray
	case v.IsObject():
		return config.FormObject
	}
	switch v.Type {
	case gjson.Number:
		return config.FormNumber
	case gjson.String:
		return config.FormString
	case gjson.True, gjson.False:
		return config.FormBoolean
	}
	return "null"
}
