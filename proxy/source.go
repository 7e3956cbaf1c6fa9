package proxy

import (
	"bytes"
	"strings"

	"github.com/tidwall/gjson"

	"weir/config"
)

// sourceText reads a text from where s says in a request; empty when the request has none. What a token or a key
// says is only known where the route's gate has verified it, and a field of the body only once that was gathered.
// The text must not be kept longer than the request. The name of a field is its jsonPath.
func (r *request) sourceText(s config.Source) []byte {
	switch s.Kind {
	case config.AffinityHeader:
		return lookup(r.raw, s.Name)
	case config.AffinityCookie:
		return cookie(lookup(r.raw, "cookie"), s.Name)
	case config.AffinityQuery:
		return r.queryValue(s.Name)
	case config.AffinityClientIP:
		return r.clientText()
	case config.AffinityClientCert:
		return r.c.identity.text()
	case config.AffinityJWT:
		return r.claim(s.Name)
	case config.AffinityAPIKey:
		return unsafeBytes(r.keyName)
	case config.AffinityJSON:
		return jsonText(r.jsonBody(), s.Name)
	}
	return nil
}

// subjectOf says where a request has what an affinity keeps on its variant.
func subjectOf(a *config.Affinity) config.Source {
	return sourceOf(config.Source{Kind: a.Source, Name: a.Name})
}

// sourceOf is s as sourceText takes it.
func sourceOf(s config.Source) config.Source {
	if s.Kind == config.AffinityJSON {
		s.Name = jsonPath(s.Name)
	}
	return s
}

// jsonPath is the path of a JSON field, names and list indices with dots between them, as gjson writes it: what is
// special in gjson's paths means itself.
func jsonPath(path string) string {
	steps := strings.Split(path, ".")
	for i, step := range steps {
		steps[i] = gjson.Escape(step)
	}
	return strings.Join(steps, ".")
}

// jsonText is the field at a jsonPath in a document: a text without its escapes, a number, true or false
// as written; empty where there is no such field, or it is null, a list or an object. Where the document is not
// valid it may be what stands there all the same.
func jsonText(doc []byte, path string) []byte {
	if len(doc) == 0 {
		return nil
	}
	switch f := gjson.GetBytes(doc, path); f.Type {
	case gjson.String:
		return unsafeBytes(f.Str)
	case gjson.Number, gjson.True, gjson.False:
		return unsafeBytes(f.Raw)
	}
	return nil
}

// jsonBody is the part of the gathered body that is JSON; nil where there is none, or it is compressed. Of the
// Open Inference Protocol's binary extension it is what stands before the tensors.
func (r *request) jsonBody() []byte {
	b := r.body()
	if len(b) == 0 {
		return nil
	}
	if coding := lookup(r.raw, "content-encoding"); len(coding) > 0 && !equalFold(coding, "identity") {
		return nil
	}
	size := lookup(r.raw, "inference-header-content-length")
	if len(size) == 0 {
		return b
	}
	n, ok := parseLength(bytes.TrimSpace(size))
	if !ok || n > int64(len(b)) {
		return nil
	}
	return b[:n]
}
