package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strconv"
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
	warn  func(text string)
	http  http.Client
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
	warn := func(text string) { fmt.Fprintln(c.stderr, "weir: warning:", printable(text)) }
	return &client{base: strings.TrimSuffix(u.String(), "/"), token: token, warn: warn, http: http.Client{
		Timeout: clientTimeout, Transport: transport,
		// The API sends nobody elsewhere, and a token must not follow whoever does.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

// call makes a request, with the JSON of in as its body unless in is nil, and decodes the answer into
// out. An answer other than 2xx is an *apiError.
func (a *client) call(ctx context.Context, method, path string, in, out any) error {
	return a.callIf(ctx, method, path, 0, in, out)
}

// callIf is call for a change that is to be made only while what it changes is at a generation; 0 is any.
func (a *client) callIf(ctx context.Context, method, path string, generation uint64, in, out any) error {
	req, err := a.request(ctx, method, path, in)
	if err != nil {
		return err
	}
	if generation > 0 {
		req.Header.Set("If-Match", `"`+strconv.FormatUint(generation, 10)+`"`)
	}
	resp, err := a.http.Do(req)
	if err != nil {
		return a.unreachable(err)
	}
	defer func() { _ = resp.Body.Close() }()
	answer, err := a.answer(resp, "application/json")
	if err != nil {
		return err
	}
	for _, w := range resp.Header.Values("Warning") {
		a.warn(warningText(w))
	}
	if err := json.Unmarshal(answer, out); err != nil {
		return fmt.Errorf("the answer of %s cannot be read (is it another version of weir?): %w", a.base+path, err)
	}
	return nil
}

func (a *client) request(ctx context.Context, method, path string, in any) (*http.Request, error) {
	var body io.Reader
	if in != nil {
		text, err := json.Marshal(in)
		if err != nil {
			return nil, err
		}
		body = bytes.NewReader(text)
	}
	req, err := http.NewRequestWithContext(ctx, method, a.base+path, body)
	if err != nil {
		return nil, err
	}
	if in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if a.token != "" {
		req.Header.Set("Authorization", "Bearer "+a.token)
	}
	return req, nil
}

// answer reads a whole answer. One other than 2xx is an *apiError; what is neither that nor of the media
// type that is wanted does not come from weir.
func (a *client) answer(resp *http.Response, want string) ([]byte, error) {
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return nil, a.unreachable(err)
	}
	ok := resp.StatusCode/100 == 2
	if !ok {
		want = "application/json"
	}
	if !isMedia(resp, want) {
		hint := "set --admin or WEIR_ADMIN to its address"
		if bytes.Contains(body, []byte("HTTP request to an HTTPS server")) {
			hint = "it speaks TLS, so write https:// in --admin or WEIR_ADMIN"
		}
		return nil, fmt.Errorf("%s does not answer like weir's admin API (%s, %q): %s", a.base, resp.Status, resp.Header.Get("Content-Type"), hint)
	}
	if !ok {
		return nil, refusal(resp, body)
	}
	return body, nil
}

func isMedia(resp *http.Response, want string) bool {
	media, _, err := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	return err == nil && media == want
}

// warningText is the text in a Warning header: code, agent, "text".
func warningText(header string) string {
	if i := strings.IndexByte(header, '"'); i >= 0 {
		if text, err := strconv.Unquote(header[i:]); err == nil {
			return text
		}
	}
	return header
}
