package proxy_test

import (
	"bufio"
	"bytes"
	"fmt"
	"net"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"weir/backend/backendtest"
	"weir/config"
	"weir/proxy/enginetest"
)

// TestEdgeRateLimitManyKeys: somebody invents a key for each request. What weir remembers of them has the size that
// was configured, and who keeps to the rate is always served. With WEIR_PROVE they are ten million.
func TestEdgeRateLimitManyKeys(t *testing.T) {
	invented, remembered := enginetest.Scaled(100_000, 20_000), 512
	prove := os.Getenv("WEIR_PROVE") != ""
	if prove {
		invented, remembered = 10_000_000, 4096
	}
	addr := backendtest.Raw(t, func(nc net.Conn) { // keeps no record of what it gets
		buf, n := make([]byte, 64<<10), 0
		for {
			m, err := nc.Read(buf[n:])
			if err != nil {
				return
			}
			n += m
			for end := bytes.Index(buf[:n], []byte("\r\n\r\n")); end >= 0; end = bytes.Index(buf[:n], []byte("\r\n\r\n")) {
				n = copy(buf, buf[end+4:n])
				if _, err := nc.Write([]byte(okResponse)); err != nil {
					return
				}
			}
		}
	})
	r := start(t, setup{endpoints: []string{addr}, blocks: prove, change: func(c *config.Config) {
		c.Routes[0].RateLimit = &config.RateLimit{
			Source: config.AffinityHeader, Name: "x-user-id", Rate: 4, Burst: 4, Cost: config.CostRequests, MaxKeys: remembered,
		}
	}})

	stop, honest := make(chan struct{}), make(chan [2]int)
	cl := r.dial(t)
	served := func() bool {
		cl.SetDeadline(time.Now().Add(patience))
		cl.send("GET / HTTP/1.1\r\nHost: h\r\nX-User-ID: honest\r\n\r\n")
		m, _, err := cl.readResponse("GET")
		if err != nil {
			t.Error(err)
			return false
		}
		return m.status() == 200
	}
	served() // it is known when the attack begins
	go func() {
		var got [2]int // refused, of
		defer func() { honest <- got }()
		for tick := time.NewTicker(260 * time.Millisecond); ; {
			if got[1]++; !served() {
				got[0]++
			}
			select {
			case <-tick.C:
			case <-stop:
				tick.Stop()
				return
			}
		}
	}()

	var before, after runtime.MemStats
	time.Sleep(50 * time.Millisecond)
	attack(t, r, 2000, 1<<40) // buffers and connections
	runtime.GC()
	runtime.ReadMemStats(&before)
	began := time.Now()
	statuses := attack(t, r, invented, 0)
	took := time.Since(began)
	runtime.GC()
	runtime.ReadMemStats(&after)
	close(stop)
	got := <-honest

	grown := int64(after.HeapAlloc) - int64(before.HeapAlloc)
	t.Logf("%d keys in %v: %d served, %d refused; the heap grew by %d KiB; the honest one was served %d times", invented, took, statuses[200], statuses[429], grown>>10, got[1])
	if most := int64(remembered*16 + 2<<20); grown > most {
		t.Errorf("%d keys took %d bytes, at most %d", invented, grown, most)
	}
	if got[0] > 0 {
		t.Errorf("the one who kept to the rate was refused %d times of %d", got[0], got[1])
	}
	if crowded := sum(r.metrics(t), "weir_rate_limit_crowded_total"); crowded < float64(invented)/10 || statuses[429] == 0 || statuses[200]+statuses[429] != invented {
		t.Errorf("%v found no place, %v: this attack was none", crowded, statuses)
	}
}

// attack sends n requests, each with a key of its own, and counts the answers.
func attack(t *testing.T, r *running, n, first int) map[int]int {
	t.Helper()
	const pipelined, connections = 50, 4
	var next atomic.Int64
	var mu sync.Mutex
	statuses := map[int]int{}
	var wg sync.WaitGroup
	for range connections {
		wg.Go(func() {
			nc, err := net.Dial("tcp", r.addr)
			if err != nil {
				t.Error(err)
				return
			}
			defer nc.Close()
			br, own, out := bufio.NewReader(nc), map[int]int{}, []byte(nil)
			for {
				at := next.Add(pipelined)
				if at > int64(n) {
					break
				}
				out = out[:0]
				for i := range int64(pipelined) {
					out = fmt.Appendf(out, "GET / HTTP/1.1\r\nHost: h\r\nX-User-ID: %d\r\n\r\n", int64(first)+at-i)
				}
				if _, err := nc.Write(out); err != nil {
					t.Error(err)
					return
				}
				for range pipelined {
					status, err := skipAnswer(br)
					if err != nil {
						t.Error(err)
						return
					}
					own[status]++
				}
			}
			mu.Lock()
			defer mu.Unlock()
			for status, n := range own {
				statuses[status] += n
			}
		})
	}
	wg.Wait()
	return statuses
}

// skipAnswer reads an answer and returns its status.
func skipAnswer(br *bufio.Reader) (status int, err error) {
	line, err := br.ReadString('\n')
	if err != nil || len(line) < 12 {
		return 0, fmt.Errorf("status line %q: %v", line, err)
	}
	status, length := int(line[9]-'0')*100+int(line[10]-'0')*10+int(line[11]-'0'), 0
	for line != "\r\n" {
		if line, err = br.ReadString('\n'); err != nil {
			return 0, err
		}
		if rest, ok := strings.CutPrefix(line, "Content-Length: "); ok {
			if _, err := fmt.Sscan(rest, &length); err != nil {
				return 0, err
			}
		}
	}
	_, err = br.Discard(length)
	return status, err
}
