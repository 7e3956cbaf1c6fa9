package proxy

import (
	"errors"
	"net"
	"testing"
	"time"

	"weir/config"
)

// TestRefuseNew: a listener that is about to close leaves new handshakes unanswered.
func TestRefuseNew(t *testing.T) {
	p := engineProxy(t, config.EngineAuto, "", "127.0.0.1:1")
	l := (*p.listeners.Load())[0]
	refuseNew(l.tcp)
	nc, err := net.DialTimeout("tcp", p.Addrs()[0].String(), 200*time.Millisecond)
	if timeout, ok := errors.AsType[net.Error](err); !ok || !timeout.Timeout() {
		t.Errorf("dial: %v, want it to wait in vain", err)
	}
	if err == nil {
		_ = nc.Close()
	}
}
