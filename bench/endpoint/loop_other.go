//go:build !linux

package endpoint

import (
	"context"
	"net"
	"sync"
)

// serve gives every connection a goroutine.
func serve(ctx context.Context, listeners []*net.TCPListener, a answers) error {
	stop := context.AfterFunc(ctx, func() { closeAll(listeners) })
	defer stop()
	var mu sync.Mutex
	answer := func(r *request) []byte {
		mu.Lock()
		defer mu.Unlock()
		return a.of(r)
	}
	failed := make(chan error, len(listeners))
	for _, ln := range listeners {
		go func() {
			for {
				c, err := ln.Accept()
				if err != nil {
					failed <- err
					return
				}
				go converse(c, answer)
			}
		}()
	}
	err := <-failed
	if ctx.Err() != nil {
		return nil
	}
	closeAll(listeners)
	return err
}

// converse answers on one connection until it ends.
func converse(c net.Conn, answer func(r *request) []byte) {
	defer c.Close()
	buf, have := make([]byte, 256<<10), 0
	for {
		r, head, err := parse(buf[:have])
		if err != nil || r.every > 0 {
			_, _ = c.Write([]byte(refusal))
			return
		}
		if head == 0 {
			n, err := c.Read(buf[have:])
			if err != nil {
				return
			}
			have += n
			continue
		}
		have = copy(buf, buf[head:have])
		for r.body > int64(have) {
			r.body -= int64(have)
			if have, err = c.Read(buf); err != nil {
				return
			}
		}
		have = copy(buf, buf[r.body:have])
		if _, err := c.Write(answer(&r)); err != nil || r.last {
			return
		}
	}
}
