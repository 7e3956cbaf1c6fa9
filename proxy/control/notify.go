package control

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"go.uber.org/zap"
)

// How a notification is sent.
const (
	notifyTimeout = 10 * time.Second // for each try
	notifyTries   = 3
	notifyPause   = 2 * time.Second
	notifyQueue   = 64 // notifications that wait; further ones are dropped, and logged
)

// notification is one that is to be sent.
type notification struct {
	url  string
	text []byte
}

// notifier sends notifications in their order. Whom they go to never holds up a rollout.
type notifier struct {
	log    *zap.Logger
	queue  chan notification
	client http.Client
}

func newNotifier(log *zap.Logger) *notifier {
	return &notifier{log: log, queue: make(chan notification, notifyQueue), client: http.Client{Timeout: notifyTimeout}}
}

// notified is the body: text is what Slack and its like show.
type notified struct {
	Text    string        `json:"text"`
	Event   string        `json:"event"`
	Rollout RolloutStatus `json:"rollout"`
}

// tell has somebody told what has become of a rollout.
func (n *notifier) tell(url, event string, s RolloutStatus) {
	text := fmt.Sprintf("weir: route %s, rollout from %s to %s: %s", s.Route, s.From, s.To, s.Phase)
	if s.Step > 0 && !s.Phase.Ended() {
		text += fmt.Sprintf(", step %d of %d (%v %%)", s.Step, len(s.Steps), s.Weight)
	}
	if s.Why != "" {
		text += ". " + s.Why
	}
	body, err := json.Marshal(notified{text, event, s})
	if err != nil {
		n.log.Error("a notification cannot be written", zap.Error(err))
		return
	}
	select {
	case n.queue <- notification{url, body}:
	default:
		n.log.Warn("a notification is dropped: too many others wait", zap.String("route", s.Route), zap.String("event", event))
	}
}

// run sends until ctx ends.
func (n *notifier) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case one := <-n.queue:
			n.send(ctx, one)
		}
	}
}

func (n *notifier) send(ctx context.Context, one notification) {
	var err error
	for range notifyTries {
		if err = n.post(ctx, one); err == nil {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(notifyPause):
		}
	}
	n.log.Warn("a notification was not taken", zap.Error(err)) // without the URL, which may hold a secret
}

func (n *notifier) post(ctx context.Context, one notification) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, one.url, bytes.NewReader(one.text))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := n.client.Do(req)
	if err != nil {
		var failed *url.Error // whose text has the URL
		if errors.As(err, &failed) {
			err = failed.Err
		}
		return fmt.Errorf("no answer: %w", err)
	}
	_, _ = io.CopyN(io.Discard, resp.Body, 64<<10)
	_ = resp.Body.Close()
	if resp.StatusCode/100 != 2 {
		return fmt.Errorf("it was answered with %s", resp.Status)
	}
	return nil
}
