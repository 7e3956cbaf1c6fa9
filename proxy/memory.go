package proxy

import (
	"fmt"
	"math"
	"os"
	"runtime/debug"
	"sync"
	"sync/atomic"

	"go.uber.org/zap"
	"weir/config"
)

// memory keeps the process below the size at which the system would kill it, and with it every request: first
// connections are not kept alive any more, then requests are refused. It looks ten times a second.
type memory struct {
	pressure atomic.Int32 // one of the pressures; what a request looks at
	resident atomic.Int64 // bytes; 0 where nobody asked
	refused  atomic.Uint64

	mu        sync.Mutex // held by configure and look
	limit     int64      // 0: none
	keepAlive int64      // up to here
	before    int64      // the soft limit of the garbage collector before there was one of ours; 0: ours is not set
}

// The pressures.
const (
	pressureNone   int32 = iota
	pressureClose        // connections end after their request
	pressureRefuse       // requests are refused
)

const (
	// collectAt is the part of the limit that is left to Go's heap: as it comes near, the garbage collector
	// works harder (runtime/debug.SetMemoryLimit), so that garbage alone never has a request refused.
	collectAt = 0.85
	// relief is how far below a threshold the resident size must be before its pressure ends: without it
	// each request let in could be the one that raises it again.
	relief = 0.95
)

// configure puts c in force. An operator's GOMEMLIMIT stands.
func (m *memory) configure(c config.Memory) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.limit, m.keepAlive = int64(c.Limit), int64(float64(c.Limit)*c.KeepAlivePercent/100)
	if m.limit == 0 {
		m.pressure.Store(pressureNone)
		m.resident.Store(0)
		if m.before > 0 {
			debug.SetMemoryLimit(m.before)
			m.before = 0
		}
		return
	}
	if os.Getenv("GOMEMLIMIT") != "" {
		return
	}
	before := debug.SetMemoryLimit(int64(float64(m.limit) * collectAt))
	if m.before == 0 {
		m.before = max(before, 1)
	}
}

// look takes the size of the process, and says what follows from it.
func (m *memory) look(log *zap.Logger) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.limit == 0 {
		return
	}
	size, err := residentSize()
	if err != nil {
		return // it was there when the configuration was applied (checkMemory)
	}
	m.resident.Store(size)
	was := m.pressure.Load()
	now := pressureAt(size, m.keepAlive, m.limit, was)
	if now == was {
		return
	}
	m.pressure.Store(now)
	fields := []zap.Field{zap.Int64("resident", size), zap.Int64("limit", m.limit)}
	switch now {
	case pressureRefuse:
		log.Error("weir holds as much memory as memory.limit allows: requests are refused", fields...)
	case pressureClose:
		log.Warn("weir is short of memory: connections end after their request", fields...)
	default:
		log.Info("weir has memory again", fields...)
	}
}

// pressureAt is the pressure at a size, after it was was.
func pressureAt(size, keepAlive, limit int64, was int32) int32 {
	over := func(threshold int64, level int32) bool {
		if was >= level {
			threshold = int64(float64(threshold) * relief)
		}
		return size >= threshold
	}
	switch {
	case over(limit, pressureRefuse):
		return pressureRefuse
	case over(keepAlive, pressureClose):
		return pressureClose
	}
	return pressureNone
}

// checkMemory says what is wrong with a limit before it is put in force.
func checkMemory(c config.Memory) error {
	if c.Limit == 0 {
		return nil
	}
	if c.Limit > math.MaxInt64/2 {
		return fmt.Errorf("memory.limit: %v is more than any machine has", c.Limit)
	}
	if _, err := residentSize(); err != nil {
		return fmt.Errorf("memory.limit: the size of the process is not known here: %w; leave it out", err)
	}
	return nil
}

// relieve ends the request, or its connection after it, where memory is short.
func (m *memory) relieve(r *request) kind {
	r.closing = true
	if m.pressure.Load() < pressureRefuse {
		return success
	}
	m.refused.Add(1)
	return outOfMemory
}
