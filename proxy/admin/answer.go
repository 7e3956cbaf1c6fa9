package admin

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"reflect"
	"strconv"
	"strings"
)

// maxBody bounds the body of a write.
const maxBody = 1 << 20

// failure is the one shape of an error.
type failure struct {
	Error  string   `json:"error"`
	Code   string   `json:"code"`
	Faults []string `json:"faults,omitempty"`
}

func writeError(w http.ResponseWriter, status int, code, message string) {
	writeJSON(w, status, failure{Error: message, Code: code})
}

// writeState answers with a state whose last change was the given generation. The ETag is of what an
// operator can change, never of live figures, so that it can guard a write against a lost race.
func writeState(w http.ResponseWriter, generation uint64, v any) {
	setETag(w, generation)
	writeJSON(w, http.StatusOK, v)
}

func setETag(w http.ResponseWriter, generation uint64) {
	w.Header().Set("ETag", `"`+strconv.FormatUint(generation, 10)+`"`)
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	body, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Errorf("an answer of the admin API is no JSON: %w", err)) // NaN in a state; guard answers 500
	}
	writeRaw(w, status, append(body, '\n'))
}

func writeRaw(w http.ResponseWriter, status int, body []byte) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	_, _ = w.Write(body) // a client that went away needs no answer
}

func notFound(w http.ResponseWriter, r *http.Request) {
	writeError(w, http.StatusNotFound, "not_found", "no such path "+quote(r.URL.Path)+": GET / lists what there is")
}

// readJSON decodes the body of a write into v, strictly. It answers the request itself and returns
// false when the body is not what it should be. A body may be absent where optional is set.
func readJSON(w http.ResponseWriter, r *http.Request, v any, optional bool) bool {
	if optional && r.ContentLength == 0 && r.Header.Get("Content-Type") == "" {
		return true
	}
	// A form of another site could be posted without asking the browser's leave, JSON could not.
	if media, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || media != "application/json" {
		writeError(w, http.StatusUnsupportedMediaType, "unsupported_media_type",
			"the Content-Type is "+quote(r.Header.Get("Content-Type"))+", it must be application/json")
		return false
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		writeError(w, http.StatusRequestEntityTooLarge, "body_too_large", fmt.Sprintf("the body is larger than %d bytes", maxBody))
		return false
	}
	if err == nil && optional && len(bytes.TrimSpace(body)) == 0 {
		return true
	}
	if err == nil {
		err = decodeStrictly(body, v)
	}
	if err != nil {
		writeError(w, http.StatusBadRequest, "bad_request", "the body is not what it should be: "+bodyFault(err))
		return false
	}
	return true
}

// bodyFault says what is wrong with a body, without the names that its parts have in this program.
func bodyFault(err error) string {
	var wrong *json.UnmarshalTypeError
	if !errors.As(err, &wrong) {
		return strings.TrimPrefix(err.Error(), "json: ")
	}
	want := "a string"
	switch wrong.Type.Kind() {
	case reflect.Bool:
		want = "true or false"
	case reflect.Float64:
		want = "a number"
	case reflect.Uint64:
		want = "a whole number from 0 up"
	}
	given, isNumber := strings.CutPrefix(wrong.Value, "number ")
	if isNumber && want == "a number" {
		want = "one that is not so large"
	}
	key := wrong.Field[strings.LastIndexByte(wrong.Field, '.')+1:]
	return quote(key) + " is " + given + ": want " + want
}

// decodeStrictly refuses what encoding/json would let pass: unknown names, one name twice, of which it
// takes the last, and null, which it takes for a key that is absent. A slip of the pen would move traffic.
func decodeStrictly(body []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(body))
	first, err := d.Token()
	switch {
	case err == io.EOF:
		return errors.New("it is empty")
	case err != nil:
		return err
	case first != json.Delim('{'):
		return errors.New("it is no JSON object")
	}
	seen := map[string]bool{}
	for d.More() {
		name, err := d.Token()
		if err != nil {
			return err
		}
		key, _ := name.(string) // the decoder lets nothing else stand here
		var value json.RawMessage
		switch err := d.Decode(&value); {
		case err != nil:
			return whole(err)
		case seen[strings.ToLower(key)]: // encoding/json does not mind the case
			return fmt.Errorf("%s is named twice", quote(key))
		case string(value) == "null":
			return fmt.Errorf("%s is null: leave it out, or give it a value", quote(key))
		}
		seen[strings.ToLower(key)] = true
	}
	if _, err := d.Token(); err != nil { // the end of the object
		return whole(err)
	}
	if _, err := d.Token(); err != io.EOF {
		return errors.New("there is more after the JSON object")
	}
	d = json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	return d.Decode(v)
}

// whole tells a body that was cut off from one that is not there.
func whole(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// quote shows what a client sent, on one line and not at length.
func quote(s string) string {
	const most = 100
	if len(s) > most {
		s = s[:most] + "…"
	}
	return strconv.QuoteToASCII(s)
}
