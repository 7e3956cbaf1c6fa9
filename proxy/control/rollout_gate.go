package control

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"
	"unicode"

	"weir/balancer/rollout"
	"weir/config"
)

// GateStatus is what one gate has said.
type GateStatus struct {
	Name    string          `json:"name"`    // webhook, command or mlflow, and which
	Verdict rollout.Verdict `json:"verdict"` // pass, fail, or inconclusive as long as it was not asked
	Why     string          `json:"why"`
}

// gates are all gates, with what those have said that were asked.
func (is *rolloutRecord) gates() []GateStatus {
	var all []GateStatus
	for i, g := range is.Checks.Gates {
		if i < len(is.Gates) {
			all = append(all, is.Gates[i])
		} else {
			all = append(all, GateStatus{gateName(g), rollout.Inconclusive, "not asked yet"})
		}
	}
	return all
}

// gateName tells gates apart. A URL may hold a secret beside its host.
func gateName(g config.Gate) string {
	host := func(raw string) string {
		u, err := url.Parse(raw)
		if err != nil {
			return raw
		}
		return u.Host
	}
	switch {
	case g.Webhook != "":
		return "webhook " + host(g.Webhook)
	case g.MLflow != nil:
		return "mlflow " + g.MLflow.Model
	default:
		return "command " + g.Command[0]
	}
}

// proposal is what gates are asked to agree to.
type proposal struct {
	Route       string        `json:"route"`
	From        string        `json:"from"`
	To          string        `json:"to"`
	FromVersion string        `json:"from_version"` // as the file has it; "" where it has none
	ToVersion   string        `json:"to_version"`
	Strategy    string        `json:"strategy"`
	Steps       []RolloutStep `json:"steps"`
	By          string        `json:"by"`
	Reason      string        `json:"reason"`
	Begun       time.Time     `json:"started"`
}

// passGates asks all gates in their order, and returns why one refuses. What they say is noted as it comes.
func (c *Controller) passGates(ctx context.Context, r *rolling) error {
	r.mu.Lock()
	s := r.status()
	gates := r.is.Checks.Gates
	r.is.Gates, r.is.Registry = nil, nil // they may have been asked before, as a restart or a pause interrupted it
	c.note(r)
	r.mu.Unlock()
	from, _ := c.proxy.Pool(s.From)
	to, _ := c.proxy.Pool(s.To)
	p := proposal{
		Route: s.Route, From: s.From, To: s.To, FromVersion: from.Version, ToVersion: to.Version, Strategy: s.Strategy, Steps: s.Steps,
		By: s.By, Reason: s.Reason, Begun: s.Begun,
	}
	for _, g := range gates {
		said, move, err := c.askGate(ctx, g, p)
		if r.ctx.Err() != nil { // nobody waits any more
			return r.ctx.Err()
		}
		status := GateStatus{gateName(g), rollout.Pass, said}
		if err != nil {
			status.Verdict, status.Why = rollout.Fail, err.Error()
		}
		r.mu.Lock()
		r.is.Gates = append(slices.Clone(r.is.Gates), status)
		if move != nil {
			r.is.Registry = append(slices.Clone(r.is.Registry), *move)
		}
		c.note(r)
		r.mu.Unlock()
		if err != nil {
			return fmt.Errorf("%s: %w", status.Name, err)
		}
	}
	return nil
}

// askGate returns what a gate said that agrees, with what is to be named after the version later, or why it does not.
func (c *Controller) askGate(ctx context.Context, g config.Gate, p proposal) (said string, move *registryMove, err error) {
	ctx, cancel := context.WithTimeout(ctx, g.Timeout)
	defer cancel()
	switch {
	case g.Webhook != "":
		said, err = askWebhook(ctx, &c.outside, g.Webhook, p)
	case g.MLflow != nil:
		said, move, err = askMLflow(ctx, &c.outside, g.MLflow, p.ToVersion)
	default:
		said, err = askCommand(ctx, g.Command, p)
	}
	if err != nil && errors.Is(ctx.Err(), context.DeadlineExceeded) {
		err = fmt.Errorf("not done after %v: %w", g.Timeout, err)
	}
	return said, move, err
}

// maxAnswer is what is read of the answer of somebody outside, in bytes.
const maxAnswer = 1 << 20

// newOutside asks where it is told to and nowhere else: a redirect is an answer.
func newOutside() http.Client {
	return http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

// fetch makes a request and returns the answer with its body. What is wrong does not show the URL, which may hold secrets.
func fetch(client *http.Client, req *http.Request) (status int, body []byte, err error) {
	resp, err := client.Do(req)
	if err != nil {
		return 0, nil, bare(err)
	}
	defer resp.Body.Close()
	body, err = io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err == nil && len(body) > maxAnswer {
		err = errors.New("it is longer than 1 MiB")
	}
	if err != nil {
		return resp.StatusCode, nil, fmt.Errorf("the body of the answer: %w", err)
	}
	return resp.StatusCode, body, nil
}

// bare is an error without the URL around it.
func bare(err error) error {
	if u := (*url.Error)(nil); errors.As(err, &u) {
		return u.Err
	}
	return err
}

// authorization is the header field for what a file holds: a bearer token, or USER:PASSWORD, which a bearer token never
// looks like (RFC 6750). It is "" without a file.
func authorization(file string) (string, error) {
	if file == "" {
		return "", nil
	}
	raw, err := os.ReadFile(file)
	if err != nil {
		return "", fmt.Errorf("the token: %w", err)
	}
	token := strings.TrimSpace(string(raw))
	user, password, basic := strings.Cut(token, ":")
	switch {
	case token == "":
		return "", fmt.Errorf("the token: %s is empty", file)
	case basic:
		req := http.Request{Header: http.Header{}}
		req.SetBasicAuth(user, password)
		return req.Header.Get("Authorization"), nil
	}
	return "Bearer " + token, nil
}

// askWebhook asks a URL.
func askWebhook(ctx context.Context, client *http.Client, to string, p proposal) (string, error) {
	text, err := json.Marshal(p)
	if err != nil {
		return "", err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, to, bytes.NewReader(text))
	if err != nil {
		return "", bare(err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "weir")
	status, body, err := fetch(client, req)
	if err != nil {
		return "", err
	}
	var answer struct {
		Pass   *bool  `json:"pass"`
		Reason string `json:"reason"`
	}
	read := json.Unmarshal(body, &answer) == nil
	switch {
	case status < 200 || status > 299:
		why := oneLine(answer.Reason)
		if !read || why == "" {
			why = excerpt(string(body))
		}
		return "", fmt.Errorf("it answered %d%s", status, after(": ", why))
	case read && answer.Pass != nil && !*answer.Pass:
		return "", errors.New(cmp.Or(oneLine(answer.Reason), "it refuses, without a reason"))
	}
	return fmt.Sprintf("it answered %d%s", status, after(": ", oneLine(answer.Reason))), nil
}

// after puts a text that is a line already behind another one.
func after(between, s string) string {
	if s == "" {
		return ""
	}
	return between + s
}

// maxExcerpt is how much of what somebody said is shown, in bytes.
const maxExcerpt = 400

// oneLine is a text without line breaks and what terminals obey, shortened at its end.
func oneLine(s string) string {
	s = squeeze(s)
	if len(s) > maxExcerpt {
		s = strings.ToValidUTF8(s[:maxExcerpt], "") + "…"
	}
	return s
}

// excerpt is the end of a text, where programs say what is wrong.
func excerpt(s string) string {
	s = squeeze(s)
	if len(s) > maxExcerpt {
		s = "…" + strings.ToValidUTF8(s[len(s)-maxExcerpt:], "")
	}
	return s
}

func squeeze(s string) string {
	s = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, "�"))
	return strings.Join(strings.Fields(s), " ")
}
