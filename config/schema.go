package config

import (
	"bytes"
	"encoding/json"
)

// Schema returns the JSON Schema (draft 2020-12) of weir.yaml, for editors and for checks
// before a deployment. It knows shapes and single values; what only holds between values
// (names that exist, sums, duplicates) is found by Parse. A value that has a ${VAR} is
// accepted everywhere.
func Schema() []byte {
	preset := DefaultConfig()
	s := fileShape().schema(&preset)
	s["$schema"] = "https://json-schema.org/draft/2020-12/schema"
	s["title"] = "weir.yaml"
	s["description"] = "The configuration of weir, a proxy that splits traffic between versions of a model."

	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	if err := encoder.Encode(s); err != nil {
		panic("config: the schema holds a value that JSON has not: " + err.Error())
	}
	return out.Bytes()
}
