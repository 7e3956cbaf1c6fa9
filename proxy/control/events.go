package control

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	keptEvents   = 1000    // for those who come back,
	keptBytes    = 4 << 20 // at most: a reload of a thousand routes is one large event
	waitingAtOne = 256     // events that a reader may be behind before it is dropped
)

// Event is something that happened.
type Event struct {
	// ID is where a reader goes on with Subscribe.
	ID string
	// Type is change (a state.Change), certificate, circuit_breaker, ejection, health, ramp, reload_failed, or lost.
	Type string
	Data json.RawMessage
}

// hub hands events to whoever listens, and keeps the last for those who were away.
type hub struct {
	run string // tells events of this run from those of another

	mu      sync.Mutex
	seq     uint64 // of the last event
	gone    uint64 // of the last event that is not kept any more
	kept    [keptEvents]Event
	bytes   int // of those kept
	readers map[chan Event]bool
	closed  bool
}

func newHub() *hub {
	return &hub{run: strconv.FormatInt(time.Now().UnixNano(), 36), readers: map[chan Event]bool{}}
}

// slot is where an event is, or will be, kept.
func (h *hub) slot(seq uint64) *Event { return &h.kept[seq%keptEvents] }

func (h *hub) id(seq uint64) string { return fmt.Sprintf("%s-%d", h.run, seq) }

// publish never waits: a reader that is too far behind is dropped.
func (h *hub) publish(kind string, data any) {
	text, err := json.Marshal(data)
	if err != nil {
		text, _ = json.Marshal(err.Error()) // NaN, in what came from JSON
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.seq++
	e := Event{ID: h.id(h.seq), Type: kind, Data: text}
	h.bytes += len(text)
	for h.seq-h.gone > keptEvents || h.bytes > keptBytes && h.gone+1 < h.seq {
		h.gone++
		h.bytes -= len(h.slot(h.gone).Data)
		*h.slot(h.gone) = Event{}
	}
	*h.slot(h.seq) = e
	for r := range h.readers {
		select {
		case r <- e:
		default:
			delete(h.readers, r)
			close(r)
		}
	}
}

// Subscribe returns the events after the one called last that are still known, and a channel of those
// to come, which is closed when the reader is too slow or weir stops. A last of "" asks for no old ones;
// where it is not known any more, the first event is of type lost. cancel ends it.
func (c *Controller) Subscribe(last string) (missed []Event, events <-chan Event, cancel func()) {
	h := c.hub
	h.mu.Lock()
	defer h.mu.Unlock()
	r := make(chan Event, waitingAtOne)
	if h.closed {
		close(r)
		return nil, r, func() {}
	}
	if last != "" {
		missed = h.after(last)
	}
	h.readers[r] = true
	return missed, r, func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		if h.readers[r] {
			delete(h.readers, r)
			close(r)
		}
	}
}

func (h *hub) after(last string) (events []Event) {
	run, number, _ := strings.Cut(last, "-")
	seq, err := strconv.ParseUint(number, 10, 64)
	if run != h.run || err != nil || seq > h.seq || seq < h.gone {
		return []Event{{ID: h.id(h.seq), Type: "lost",
			Data: json.RawMessage(`{"why":"events after the last one you know are not kept any more; read the state again"}`)}}
	}
	for seq < h.seq {
		seq++
		events = append(events, *h.slot(seq))
	}
	return events
}

func (h *hub) close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closed = true
	for r := range h.readers {
		delete(h.readers, r)
		close(r)
	}
}
