package config

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v4"
)

// maxBackoff keeps the longest pause, ten times as long, within what anyone waits for.
const maxBackoff = time.Minute

func retryShape() shape[Retry] {
	return orOff[Retry]{off: noRetry(), isOff: func(r Retry) bool { return r.Attempts <= 1 }, inner: object[Retry]{fields: []field[Retry]{
		key("attempts", countScalar(1, 10), func(r *Retry) *int { return &r.Attempts },
			"How often a request is sent at most, the first time included; 1 is the same as off."),
		key("on", retryOnShape{}, func(r *Retry) *Retry { return r },
			"What a request is sent again after: connect (no connection), reset (the connection ended before the head of the answer), timeout (timeouts.attempt is over), protocol (the head of the answer is not valid HTTP), statuses of answers from 400 to 599, 5xx for all from 500, and statuses of gRPC such as unavailable and resource_exhausted, where the answer to a call is nothing else."),
		key("idempotent", choiceShape("word", []string{IdempotentAuto, IdempotentAlways, IdempotentNever}), func(r *Retry) *string { return &r.Idempotent },
			"Which requests may be sent again that may have reached an endpoint: auto is safe methods (GET, HEAD, OPTIONS) and inference (POST to …/predict, to V2 /v2/models/…/infer, and to the methods of V2's gRPC that read a model or have it compute); always is every request of the route; never is none, so that only failures to connect are left, and safe methods that met the end of a kept-alive connection."),
		key("budget_percent", percentShape(), func(r *Retry) *float64 { return &r.BudgetPercent },
			"In any 10 s, at most this percentage of the route's requests is sent again, or 10 where that is more."),
		key("backoff", pauseShape(maxBackoff), func(r *Retry) *time.Duration { return &r.Backoff },
			"The pause before it is sent again is drawn from 0 to this, the next from 0 to three times this, then seven times, at most ten. At most 1m."),
	}}}
}

// retryOnShape is On, Status and GRPC of a retry, which the file has as one list.
type retryOnShape struct{}

// retryAll5xx stands for the statuses from 500 to 599.
const retryAll5xx = "5xx"

// The statuses that a retry may follow.
const (
	leastRetryStatus = 400
	mostRetryStatus  = 599
)

func retryFailures() []string { return []string{RetryConnect, RetryReset, RetryTimeout, RetryProtocol} }

// retryCalls are the statuses of gRPC but OK, in the order of their codes.
func retryCalls() []string {
	return []string{
		"cancelled", "unknown", "invalid_argument", "deadline_exceeded", "not_found", "already_exists", "permission_denied",
		"resource_exhausted", "failed_precondition", "aborted", "out_of_range", "unimplemented", "internal", "unavailable",
		"data_loss", "unauthenticated",
	}
}

func (retryOnShape) words() list[string] {
	known := slices.Concat(retryFailures(), []string{retryAll5xx}, retryCalls())
	want := choices(append(retryFailures(), "a status from 400 to 599", retryAll5xx, "a status of gRPC such as unavailable"), "or")
	most := len(known) + mostRetryStatus - leastRetryStatus
	return list[string]{noun: "failure", least: 1, most: most, fresh: func() string { return "" }, elem: scalar[string]{
		want: want, format: verbatim,
		parse: func(s string) (string, error) {
			if _, isStatus := retryStatus(s); isStatus || slices.Contains(known, s) {
				return s, nil
			}
			if meant := nearest(strings.ReplaceAll(s, "-", "_"), known); meant != "" {
				return "", fmt.Errorf("unknown failure %q; did you mean %s? want %s", clip(s), meant, want)
			}
			return "", fmt.Errorf("unknown failure %q; want %s", clip(s), want)
		},
		body: func() schema {
			return orVariable(
				schema{"enum": known},
				schema{"type": "integer", "minimum": leastRetryStatus, "maximum": mostRetryStatus},
				schema{"type": "string", "pattern": "^[45][0-9][0-9]$"})
		},
	}}
}

func retryStatus(s string) (code int, ok bool) {
	code, err := strconv.Atoi(s)
	return code, err == nil && len(s) == 3 && code >= leastRetryStatus && code <= mostRetryStatus
}

// decode brings what the file has in any order into one, because it says the same in all of them.
func (o retryOnShape) decode(d *decoder, n *yaml.Node, key string, into *Retry) {
	var words []string
	if o.words().decode(d, n, key, &words); len(words) == 0 || slices.Contains(words, "") { // "" could not be read
		return
	}
	for i, word := range words {
		code, isStatus := retryStatus(word)
		switch {
		case slices.Contains(words[:i], word):
			d.fault(item(key, i), "duplicate failure %s; name it once", word)
		case isStatus && code >= 500 && slices.Contains(words, retryAll5xx):
			d.fault(item(key, i), "%s is one of 5xx, which is given too; keep one of them", word)
		}
	}
	among := func(known []string) (found []string) {
		for _, word := range known {
			if slices.Contains(words, word) {
				found = append(found, word)
			}
		}
		return found
	}
	into.On, into.GRPC, into.Status = among(retryFailures()), among(retryCalls()), nil
	for _, word := range words {
		if code, isStatus := retryStatus(word); isStatus {
			into.Status = append(into.Status, code)
		}
	}
	if slices.Contains(words, retryAll5xx) {
		into.Status = append(into.Status, all5xx()...)
	}
	slices.Sort(into.Status)
}

// asWords is the inverse of decode.
func (retryOnShape) asWords(r *Retry) []string {
	words, single := slices.Clone(r.On), r.Status
	all := all5xx()
	below := len(r.Status) - len(all)
	has5xx := below >= 0 && slices.Equal(r.Status[below:], all)
	if has5xx {
		single = r.Status[:below]
	}
	for _, code := range single {
		words = append(words, strconv.Itoa(code))
	}
	if has5xx {
		words = append(words, retryAll5xx)
	}
	return append(words, r.GRPC...)
}

func all5xx() []int {
	codes := make([]int, 0, 100)
	for code := 500; code <= mostRetryStatus; code++ {
		codes = append(codes, code)
	}
	return codes
}

func (o retryOnShape) encode(r *Retry) *yaml.Node {
	words := o.asWords(r)
	return o.words().encode(&words)
}

func (o retryOnShape) schema(preset *Retry) schema {
	words := o.asWords(preset)
	return o.words().schema(&words)
}

func (o retryOnShape) diff(d *differ, key string, old, next *Retry) {
	before, after := o.asWords(old), o.asWords(next)
	o.words().diff(d, key, &before, &after)
}
