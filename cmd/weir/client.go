package main

import (
	"bytes"
	"cmp"
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

const (
	defaultAdmin = "http://127.0.0.1:9901"
	// clientTimeout bounds one call; the longest is a reload, which looks up names for some seconds.
	clientTimeout = 30 * time.Second
	maxAnswer     = 64 << 20
)

// client speaks to the admin API of a running weir.
type client struct {
	base  string
	token string // "" sends none
	http  http.Client
}

// apiError is a refusal by the admin API, in its words: an error with its faults, or the state of a
// health check with its reasons.
type apiError struct {
	Message string   `json:"error"`
	State   string   `json:"status"`
	Faults  []string `json:"faults"`
	Reasons []string `json:"reasons"`
}

func (e *apiError) Error() string {
	first := cmp.Or(e.Message, e.State)
	return strings.Join(slices.Concat([]string{first}, e.Faults, e.Reasons), "\n")
}

// client returns a client for --admin, WEIR_ADMIN or the default, in this order.
func (c *cli) client() (*client, error) {
	base, from := c.admin, "--admin"
	if base == "" {
		base, from = c.getenv("WEIR_ADMIN"), "WEIR_ADMIN"
	}
	if base == "" {
		base = defaultAdmin
	}
	if !strings.Contains(base, "://") {
		base = "http://" + base
	}
	u, err := url.Parse(base)
	if err == nil && u.User != nil { // not shown: it may be a password
		return nil, usageError("%s: the address has a user in it, which the admin API does not ask for; give a token with --token-file or WEIR_TOKEN", from)
	}
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return nil, usageError("%s: %q is no address of an admin API; write %s", from, base, defaultAdmin)
	}
	token, err := c.apiToken()
	if err != nil {
		return nil, err
	}
	transport, err := c.transport()
	if err != nil {
		return nil, err
	}
	return &client{base: strings.TrimSuffix(u.String(), "/"), token: token, http: http.Client{
		Timeout: clientTimeout, Transport: transport,
		// The API sends nobody elsewhere, and a token must not follow whoever does.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

// call makes a request, with the JSON of in as its body unless in is nil, and decodes the answer into
// out. An answer other than 2xx is an *apiError.
func (a *client) call(ctx context.Context, method, path string, in, out any) error {
	var body io.Reader
	if in != nil {
		text, err := json.Marshal(in)
		if err != nil {
			return err
		}
		body = bytes.NewReader(text)
	}
	req, err := http.NewRequestWithContext(ctx, method, a.base+path, body)
	if err != nil {
		return err
	}
	if in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if a.token != "" {
		req.Header.Set("Authorization", "Bearer "+a.token)
	}
	resp, err := a.http.Do(req)
	if err != nil {
		return a.unreachable(err)
	}
	defer func() { _ = resp.Body.Close() }()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return a.unreachable(err)
	}
	if media, _, err := mime.ParseMediaType(resp.Header.Get("Content-Type")); err != nil || media != "application/json" {
		hint := "set --admin or WEIR_ADMIN to its address"
		if bytes.Contains(answer, []byte("HTTP request to an HTTPS server")) {
			hint = "it speaks TLS, so write https:// in --admin or WEIR_ADMIN"
		}
		return fmt.Errorf("%s does not answer like weir's admin API (%s, %q): %s", a.base, resp.Status, resp.Header.Get("Content-Type"), hint)
	}
	if resp.StatusCode/100 != 2 {
		refusal := new(apiError)
		if err := json.Unmarshal(answer, refusal); err != nil || refusal.Message+refusal.State == "" {
			refusal.Message = fmt.Sprintf("%s answered %s", a.base+path, resp.Status)
		}
		return refusal
	}
	if err := json.Unmarshal(answer, out); err != nil {
		return fmt.Errorf("the answer of %s cannot be read (is it another version of weir?): %w", a.base+path, err)
	}
	return nil
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
	return fmt.Errorf("cannot reach the admin API at %s: %w\n%s", a.base, reason, hint)
}
