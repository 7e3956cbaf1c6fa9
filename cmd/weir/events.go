package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
)

const (
	// maxEvent bounds a line of the stream; a change of every route of a big file is the longest.
	maxEvent = 16 << 20
	// maxSilence is four times the time after which weir shows that it is still there.
	maxSilence = time.Minute
	// Between two tries to connect again; it doubles from the first to the last.
	firstRetry, lastRetry = 500 * time.Millisecond, 10 * time.Second
)

// eventTypes are the types of events, with what they are.
func eventTypes() []string {
	return []string{
		"change\tweights, drains or the configuration changed", "ramp\ta ramp started, finished or stopped",
		"health\tan endpoint became healthy or unhealthy", "ejection\tan endpoint was ejected as an outlier, or came back",
		"circuit_breaker\ta pool's circuit breaker began to refuse requests, or does no more",
		"certificate\ta certificate was obtained or renewed, or could not be (tls.acme)", "reload_failed\ta configuration was rejected",
		"rollout\ta rollout began, went on, was paused or ended",
	}
}

// eventNames are the types alone, as a list to read.
func eventNames() string {
	names := eventTypes()
	for i, t := range names {
		names[i], _, _ = strings.Cut(t, "\t")
	}
	return strings.Join(names, ", ")
}

func (c *cli) events() *cobra.Command {
	var types []string
	var since string
	cmd := &cobra.Command{
		Use: "events", Short: "Show what happens, as it happens", Args: noArgs(""),
		Long: "Print every change of routing, step of a ramp or a rollout, change of health, ejection, circuit breaker, certificate and\n" +
			"rejected reload, a line each, until interrupted. When the connection ends it connects again and goes on with the event after the last one;\n" +
			"where weir does not know those any more, as after a restart, it says that some are lost. --since does the\n" +
			"same by the id of an event, which is printed at the end.\n\n" +
			"With -o json it prints an object a line, {\"id\":…,\"type\":…,\"data\":{…}}, whose data is that of the stream\n" +
			"(GET /api/v1/openapi.yaml describes it by type); with yaml, the same as documents.",
		Example: "  weir events\n  weir events --types change,ramp -o json | jq .data",
		RunE: func(cmd *cobra.Command, _ []string) error {
			for _, t := range types {
				if !slices.ContainsFunc(eventTypes(), func(known string) bool { return strings.HasPrefix(known, t+"\t") }) {
					return usageError("unknown type of events %q (have %s)", t, eventNames())
				}
			}
			api, err := c.client()
			if err != nil {
				return err
			}
			ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGINT, syscall.SIGTERM)
			defer stop()
			f := &follower{cli: c, api: api, types: types, last: since}
			return f.run(ctx)
		},
	}
	cmd.Flags().StringSliceVar(&types, "types", nil, "only events of these types: "+eventNames())
	cmd.Flags().StringVar(&since, "since", "", "begin after the event with this id")
	_ = cmd.RegisterFlagCompletionFunc("types", cobra.FixedCompletions(eventTypes(), cobra.ShellCompDirectiveNoFileComp)) // fails for a flag that is not there
	_ = cmd.RegisterFlagCompletionFunc("since", cobra.NoFileCompletions)                                                  // likewise
	return cmd
}

// follower reads the stream of events.
type follower struct {
	cli   *cli
	api   *client
	types []string
	last  string // id of the last event
	seen  bool   // there was one
}

// event is one of the stream.
type event struct{ id, kind, data string }

// run prints events until ctx ends or weir refuses. The first connection has to succeed.
func (f *follower) run(ctx context.Context) error {
	connected, pause := false, firstRetry
	for {
		err := f.follow(ctx, func() {
			if connected {
				fmt.Fprintln(f.cli.stderr, "weir: connected again")
			}
			connected, pause = true, firstRetry
		})
		var refused *apiError
		var written *outputError
		switch {
		case ctx.Err() != nil:
			if f.seen {
				fmt.Fprintf(f.cli.stderr, "weir: to go on from here: weir events --since %s\n", f.last)
			}
			return nil
		case errors.As(err, &written):
			return written.cause
		case !connected, errors.As(err, &refused) && refused.status < 500:
			return err
		case pause == firstRetry:
			f.cli.complain(fmt.Errorf("the stream of events ended, connecting again (%w)", err))
		}
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
		pause = min(2*pause, lastRetry)
	}
}

// outputError is that stdout takes no more.
type outputError struct{ cause error }

func (e *outputError) Error() string { return e.cause.Error() }

// follow prints the events of one connection; it calls connected when weir has accepted it. The error is
// never nil.
func (f *follower) follow(ctx context.Context, connected func()) error {
	path := "/api/v1/events"
	if len(f.types) > 0 {
		path += "?types=" + url.QueryEscape(strings.Join(f.types, ","))
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	req, err := f.api.request(ctx, http.MethodGet, path, nil)
	if err != nil {
		return err
	}
	req.Header.Set("Accept", "text/event-stream")
	if f.last != "" {
		req.Header.Set("Last-Event-ID", f.last)
	}
	stream := f.api.http
	stream.Timeout = 0 // it has no end, but no long silence either
	silent := time.AfterFunc(clientTimeout, cancel)
	defer silent.Stop()
	resp, err := stream.Do(req)
	if err != nil {
		return f.api.unreachable(err)
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode/100 != 2 || !isMedia(resp, "text/event-stream") {
		_, err := f.api.answer(resp, "text/event-stream")
		return err
	}
	connected()
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, maxEvent)
	var e event
	for lines.Scan() {
		silent.Reset(maxSilence)
		if line := lines.Text(); line != "" {
			e.add(line)
			continue
		}
		if e.id != "" {
			f.last = e.id
		}
		if e.data != "" {
			f.seen = true
			if err := f.print(e, time.Now()); err != nil {
				return &outputError{err}
			}
		}
		e = event{}
	}
	if err := lines.Err(); err != nil {
		return err
	}
	return io.EOF
}

// add takes a line of the stream into the event.
func (e *event) add(line string) {
	field, value, _ := strings.Cut(line, ":")
	value = strings.TrimPrefix(value, " ")
	switch field { // "" is a comment, which keeps the connection open
	case "id":
		e.id = value
	case "event":
		e.kind = value
	case "data":
		if e.data != "" {
			e.data += "\n"
		}
		e.data += value
	}
}

// eventObject is an event as -o json has it.
type eventObject struct {
	ID   string          `json:"id"`
	Type string          `json:"type"`
	Data json.RawMessage `json:"data"`
}

// object keeps an object a line whatever the stream has: what is not JSON becomes a text.
func (e *event) object() eventObject {
	data := json.RawMessage(e.data)
	if !json.Valid(data) {
		data, _ = json.Marshal(e.data) // a text always can
	}
	return eventObject{e.id, e.kind, data}
}

func (f *follower) print(e event, now time.Time) (err error) {
	switch f.cli.output {
	case "json":
		enc := json.NewEncoder(f.cli.stdout)
		enc.SetEscapeHTML(false)
		err = enc.Encode(e.object())
	case "yaml":
		if _, err = io.WriteString(f.cli.stdout, "---\n"); err == nil {
			err = writeYAML(f.cli.stdout, e.object())
		}
	default:
		_, err = fmt.Fprintln(f.cli.stdout, e.text(now, f.cli.colours()))
	}
	return err
}
