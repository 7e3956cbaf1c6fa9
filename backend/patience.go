package backend

import (
	"context"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/valyala/fasthttp"
)

// The header fields in which a request of REST says how long its client waits and how urgent it is; weir sends the
// first with what is left of its own time.
const (
	timeoutHeader  = "X-Request-Timeout"
	priorityHeader = "X-Priority"
)

// patience is how long, and how urgently, a request waits for its model.
type patience struct {
	ctx    context.Context
	cancel context.CancelFunc
	// priority is a level from 1, the highest, or 0 for the model's default; lowest asks for the
	// last level there is.
	priority int
}

const lowest = math.MaxInt

// patience is the request's; leave must be called before the request is answered.
func (s *Server) patience(ctx *fasthttp.RequestCtx) (p patience, leave func()) {
	if d, ok := parseTimeout(string(ctx.Request.Header.Peek(timeoutHeader))); ok {
		p.ctx, p.cancel = context.WithTimeout(context.Background(), d)
	} else {
		p.ctx, p.cancel = context.WithCancel(context.Background())
	}
	p.priority = parsePriority(string(ctx.Request.Header.Peek(priorityHeader)))
	cancel := p.cancel
	unwatch := s.departures.watch(ctx.Conn(), cancel)
	return p, func() {
		unwatch()
		cancel()
	}
}

// with is the patience as the parameters of a V2 request change it.
func (p patience) with(priority int, timeout time.Duration) (_ patience, leave func()) {
	if priority > 0 {
		p.priority = priority
	}
	if timeout <= 0 {
		return p, func() {}
	}
	p.ctx, p.cancel = context.WithTimeout(p.ctx, timeout)
	return p, p.cancel
}

// longestTimeout is as good as none; longer ones would not fit a Duration.
const longestTimeout = 24 * time.Hour

// parseTimeout reads a time as weir does: seconds, or a number with a unit, ms, s, m or h. Anything
// else is as good as none.
func parseTimeout(text string) (time.Duration, bool) {
	unit := time.Second
	for _, u := range []struct {
		text string
		unit time.Duration
	}{{"ms", time.Millisecond}, {"s", time.Second}, {"m", time.Minute}, {"h", time.Hour}} {
		if number, ok := strings.CutSuffix(text, u.text); ok {
			text, unit = number, u.unit
			break
		}
	}
	if text == "" || strings.Trim(text, "0123456789.") != "" {
		return 0, false
	}
	f, err := strconv.ParseFloat(text, 64)
	if err != nil {
		return 0, false
	}
	return time.Duration(min(f*float64(unit), float64(longestTimeout))), true
}

// parsePriority reads a level, or one of weir's classes of priority. Anything else is the default.
func parsePriority(text string) int {
	switch text {
	case "high":
		return 1
	case "low":
		return lowest
	}
	level, err := strconv.Atoi(text)
	if err != nil || level < 0 {
		return 0
	}
	return level
}
