package state

import (
	"errors"
	"sync"
)

// Memory is the Store of a weir without a state file: nothing outlives the process. The zero value is
// ready.
type Memory struct {
	mu     sync.Mutex
	closed bool
	// kept is a Document as File would write it. So both refuse and return the same, and nothing is shared
	// with the caller.
	kept []byte
}

var _ Store = (*Memory)(nil)

// Load returns what was saved last, nil when nothing was.
func (m *Memory) Load() (*Document, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return nil, errClosed
	}
	if m.kept == nil {
		return nil, nil
	}
	return decode(m.kept)
}

// Save replaces what Load returns.
func (m *Memory) Save(d *Document) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return errClosed
	}
	data, err := encode(d)
	if err != nil {
		return err
	}
	m.kept = data
	return nil
}

// Close ends the use of m.
func (m *Memory) Close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.closed = true
	return nil
}

var errClosed = errors.New("the state is closed")
