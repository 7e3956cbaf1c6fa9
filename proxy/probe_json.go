package proxy

import (
	"errors"
	"fmt"
	"math"
	"strings"

	"github.com/tidwall/gjson"

	"weir/config"
)

// holds returns what contradicts the assertions in a JSON body: the first that does not hold, with
// what is there instead. Numbers may differ by tolerance, relative to what is wanted.
func holds(body []byte, assertions []config.Assertion, tolerance float64) error {
	if len(assertions) == 0 {
		return nil
	}
	if !gjson.ValidBytes(body) {
		return errors.New("the body of the answer is no JSON")
	}
	root := gjson.ParseBytes(body)
	for _, a := range assertions {
		found := root.Get(jsonPath(a.Path))
		switch {
		case !found.Exists():
			return fmt.Errorf("%s is absent; want %s", a.Path, a.Value)
		case !sameScalar(found, gjson.Parse(a.Value), tolerance):
			return fmt.Errorf("%s is %s; want %s", a.Path, clipJSON(found.Raw), a.Value)
		}
	}
	return nil
}

// sameScalar compares as JSON does: 1 and 1.0 are the same number, "1" is another value.
func sameScalar(a, b gjson.Result, tolerance float64) bool {
	if a.Type != b.Type {
		return false
	}
	switch a.Type {
	case gjson.Number:
		return a.Num == b.Num || math.Abs(a.Num-b.Num) <= tolerance*math.Abs(b.Num)
	case gjson.String:
		return a.Str == b.Str
	case gjson.JSON:
		return a.Raw == b.Raw
	default: // true, false and null have one value each
		return true
	}
}

// clipJSON shortens what stands in an answer for a log line and a status.
func clipJSON(raw string) string {
	const most = 80
	if len(raw) <= most {
		return raw
	}
	return strings.ToValidUTF8(raw[:most], "") + "…"
}
