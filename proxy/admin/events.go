package admin

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"weir/proxy/control"
)

const (
	maxStreams   = 100
	heartbeat    = 15 * time.Second // keeps those on the way from taking a stream for dead
	patience     = 5 * time.Second  // with a reader that takes nothing
	reconnection = 2 * time.Second
	batch        = 16 << 10 // bytes after which a write does not wait for more events
)

// never is the ID of no event: who knows it last is told the ID of now.
const never = "-"

// eventTypes are those of control.Event that a reader can choose from. It is told in any case that it lost
// some.
func eventTypes() []string {
	return []string{"certificate", "change", "circuit_breaker", "ejection", "health", "ramp", "reload_failed", "rollout"}
}

// streams are the bounds of all event streams.
type streams struct {
	heartbeat, patience time.Duration
	places              chan struct{} // one taken by each stream
	ended               context.Context
	end                 context.CancelFunc
}

func newStreams() *streams {
	s := &streams{heartbeat: heartbeat, patience: patience, places: make(chan struct{}, maxStreams)}
	s.ended, s.end = context.WithCancel(context.Background())
	return s
}

// events streams what happens, as server-sent events, until the reader goes away or weir stops.
func (s *Server) events(w http.ResponseWriter, r *http.Request) {
	types, err := chosenTypes(r.URL.Query()["types"])
	if err != nil {
		writeError(w, http.StatusBadRequest, "bad_request", err.Error())
		return
	}
	select {
	case s.streams.places <- struct{}{}:
		defer func() { <-s.streams.places }()
	default:
		w.Header().Set("Retry-After", "5")
		writeError(w, http.StatusServiceUnavailable, "too_many_streams", fmt.Sprintf("there are %d event streams already", cap(s.streams.places)))
		return
	}
	known := cmp.Or(r.Header.Get("Last-Event-ID"), r.URL.Query().Get("last_event_id"))
	missed, events, cancel := s.o.Control.Subscribe(cmp.Or(known, never))
	defer cancel()
	if stopping(events, &missed) || s.streams.ended.Err() != nil {
		writeError(w, http.StatusServiceUnavailable, "stopping", "weir is stopping; there are no events any more")
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("X-Accel-Buffering", "no") // nginx on the way would collect events
	if r.Method == http.MethodHead {
		return
	}
	st := &stream{w: w, conn: http.NewResponseController(w), patience: s.streams.patience, types: types}
	// The bounds on requests that end are none for one that does not.
	if err := st.conn.SetReadDeadline(time.Time{}); err != nil {
		panic(err) // net/http can do that
	}
	// net/http writes the end of the answer, which must not wait for the reader either.
	defer func() { _ = st.conn.SetWriteDeadline(time.Now().Add(st.patience)) }()
	fmt.Fprintf(&st.out, "retry: %d\n", reconnection.Milliseconds())
	if known == "" && len(missed) > 0 { // it can come back from the start
		fmt.Fprintf(&st.out, "id: %s\n", missed[0].ID)
		missed = missed[1:]
	}
	st.out.WriteByte('\n')
	if st.write(missed) == nil {
		s.follow(r, st, events)
	}
}

// stopping reports whether events is closed already. One that came meanwhile it adds to missed.
func stopping(events <-chan control.Event, missed *[]control.Event) bool {
	select {
	case e, ok := <-events:
		if ok {
			*missed = append(*missed, e)
		}
		return !ok
	default:
		return false
	}
}

// follow sends events until the reader or weir has enough.
func (s *Server) follow(r *http.Request, st *stream, events <-chan control.Event) {
	beat := time.NewTicker(s.streams.heartbeat)
	defer beat.Stop()
	for {
		var err error
		select {
		case <-r.Context().Done():
			return
		case <-s.streams.ended.Done():
			return
		case e, ok := <-events:
			if !ok {
				return
			}
			news := []control.Event{e}
			for range len(events) {
				news = append(news, <-events)
			}
			if !s.stillAdmitted(r) {
				return
			}
			err = st.write(news)
		case <-beat.C:
			if !s.stillAdmitted(r) {
				return
			}
			err = st.beat()
		}
		if err != nil {
			return // it went away, or takes nothing
		}
	}
}

// stillAdmitted holds a stream to the tokens that are in force by now.
func (s *Server) stillAdmitted(r *http.Request) bool {
	tokens := s.o.Tokens.inForce()
	if tokens == nil {
		return true
	}
	secret, _ := bearer(r)
	_, ok := tokens.find(secret)
	return ok
}

// chosenTypes are those of the query; none stands for all.
func chosenTypes(values []string) ([]string, error) {
	var types []string
	for _, value := range values {
		for name := range strings.SplitSeq(value, ",") {
			if !slices.Contains(eventTypes(), name) {
				return nil, fmt.Errorf("unknown event type %s (have %s)", quote(name), strings.Join(eventTypes(), ", "))
			}
			types = append(types, name)
		}
	}
	return types, nil
}

// stream is one reader of events.
type stream struct {
	w        http.ResponseWriter
	conn     *http.ResponseController
	patience time.Duration
	types    []string // those it asked for; nil for all
	out      bytes.Buffer
	passed   string // ID of the last event, where the reader did not ask for that
}

// write sends what is in out and the events that the reader asked for.
func (s *stream) write(events []control.Event) error {
	for _, e := range events {
		if s.types != nil && e.Type != "lost" && !slices.Contains(s.types, e.Type) {
			s.passed = e.ID
			continue
		}
		s.passed = ""
		fmt.Fprintf(&s.out, "id: %s\nevent: %s\ndata: %s\n\n", e.ID, e.Type, e.Data) // JSON of one line
		if s.out.Len() >= batch {
			if err := s.send(); err != nil {
				return err
			}
		}
	}
	return s.send()
}

// beat shows that the stream lives. The ID of events that the reader did not ask for goes with it: else it
// would be told when it comes back that it lost some.
func (s *stream) beat() error {
	s.out.WriteString(": still here\n")
	if s.passed != "" {
		fmt.Fprintf(&s.out, "id: %s\n", s.passed)
		s.passed = ""
	}
	s.out.WriteByte('\n')
	return s.send()
}

// send writes out what is to be sent, in a bounded time: a reader that takes nothing is not waited for.
func (s *stream) send() error {
	if s.out.Len() == 0 {
		return nil
	}
	if err := s.conn.SetWriteDeadline(time.Now().Add(s.patience)); err != nil {
		return err
	}
	_, err := s.w.Write(s.out.Bytes())
	s.out.Reset()
	if err == nil {
		err = s.conn.Flush()
	}
	if err == nil { // HTTP/2 ends a stream whose time is over, even where nothing is being written
		err = s.conn.SetWriteDeadline(time.Time{})
	}
	return err
}
