package admin

import (
	"bytes"
	_ "embed"
	"html/template"
	"net/http"
)

//go:embed index.html
var indexHTML string

// index is a page of links, so that a browser finds its way without the manual.
func (s *Server) index(w http.ResponseWriter, _ *http.Request) {
	page, err := template.New("index").Parse(indexHTML)
	if err != nil {
		panic(err) // it is part of the program; a test renders it
	}
	var out bytes.Buffer
	if err := page.Execute(&out, s.o.Control.Status()); err != nil {
		panic(err)
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'")
	_, _ = w.Write(out.Bytes())
}
