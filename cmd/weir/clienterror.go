package main

import (
	"cmp"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// apiError is a refusal by the admin API, in its words: an error with its faults, or the state of a
// health check with its reasons.
type apiError struct {
	Message string   `json:"error"`
	State   string   `json:"status"`
	Code    string   `json:"code"`
	Faults  []string `json:"faults"`
	Reasons []string `json:"reasons"`

	status int
	hint   string // what to do
}

func (e *apiError) Error() string {
	lines := slices.Concat([]string{cmp.Or(e.Message, e.State)}, e.Faults, e.Reasons)
	if e.hint != "" {
		lines = append(lines, e.hint)
	}
	return strings.Join(lines, "\n")
}

// refusal is the error of an answer other than 2xx.
func refusal(resp *http.Response, body []byte) *apiError {
	e := &apiError{status: resp.StatusCode}
	if err := json.Unmarshal(body, e); err != nil || e.Message+e.State == "" {
		e.Message = fmt.Sprintf("%s answered %s", resp.Request.URL.Redacted(), resp.Status)
	}
	switch {
	case e.status == http.StatusUnauthorized:
		e.Message, _, _ = strings.Cut(e.Message, ": send one as ") // which is for other clients
		e.hint = "Name a file with a token with --token-file, or give the token in WEIR_TOKEN"
	case e.Code == "read_only":
		e.hint = "Give a token that may write with --token-file or WEIR_TOKEN"
	case e.Code == "no_route":
		e.hint = "That is how weir's proxy answers: set --admin or WEIR_ADMIN to the address of the admin API (admin.address)"
	case e.Code == "not_found":
		e.hint = "Is another version of weir running there? \"weir status\" says which"
	case e.status == http.StatusPreconditionFailed:
		e.hint = "Look at what it is now, then give that generation with --if-match"
	case e.status == http.StatusConflict:
		if text, ok := strings.CutSuffix(e.Message, "; force does it all the same"); ok {
			e.Message, e.hint = text, "Nothing was changed. Use --force to do it all the same"
		}
	}
	return e
}

// unreachable says what to do, with the innermost reason: the rest of the chain repeats the address.
func (a *client) unreachable(err error) error {
	reason := err
	var op *net.OpError
	var wrapped *url.Error
	switch {
	case errors.As(err, &op):
		reason = op.Err
	case errors.As(err, &wrapped):
		reason = wrapped.Err
	}
	hint := "Is weir running there? Set --admin or WEIR_ADMIN to its address"
	if unknown := (x509.UnknownAuthorityError{}); errors.As(err, &unknown) {
		hint = "Name the authority that signed its certificate with --ca-file or WEIR_CA"
	}
	if errors.Is(err, http.ErrSchemeMismatch) {
		reason, hint = errors.New("it speaks plain HTTP, not TLS"), "Write http:// in --admin or WEIR_ADMIN"
	}
	return fmt.Errorf("cannot reach the admin API at %s: %w\n%s", a.base, reason, hint)
}
