package control

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	keptEvents   = 1000 // for those who come back
	waitingAtOne = 256  // events that a reader may be behind before it is dropped
)

// Event is something that happened.
type Event struct {
	// ID is where a reader goes on with Subscribe.
	ID string
	// Type is change (a state.Change), health, ramp, reload_failed, or lost.
	Type string
	Data json.RawMessage
}

// hub hands events to whoever listens, and keeps the last for those who were away.
type hub struct {
	run string // tells events of this run from those of another

	mu      sync.Mutex
	seq     uint64
	kept    []Event
	readers map[chan Event]bool
	closed  bool
}

func newHub() *hub {
	return &hub{run: strconv.FormatInt(time.Now().UnixNano(), 36), readers: map[chan Event]bool{}}
}

// publish never waits: a reader that is too far behind is dropped.
func (h *hub) publish(kind string, data any) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.seq++
	text, err := json.Marshal(data)
	if err != nil {
		text, _ = json.Marshal(err.Error()) // NaN, in what came from JSON
	}
	e := Event{ID: fmt.Sprintf("%s-%d", h.run, h.seq), Type: kind, Data: text}
	h.kept = append(h.kept, e)
	if len(h.kept) > keptEvents {
		h.kept = slices.Clone(h.kept[1:])
	}
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

func (h *hub) after(last string) []Event {
	run, number, _ := strings.Cut(last, "-")
	seq, err := strconv.ParseUint(number, 10, 64)
	first := h.seq - uint64(len(h.kept)) + 1
	if run != h.run || err != nil || seq > h.seq || seq+1 < first {
		lost := Event{ID: fmt.Sprintf("%s-%d", h.run, h.seq), Type: "lost", Data: json.RawMessage(`{"why":"events after ` + "the last one you know are not kept any more; read the state again" + `"}`)}
		return []Event{lost}
	}
	return slices.Clone(h.kept[seq+1-first:])
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
