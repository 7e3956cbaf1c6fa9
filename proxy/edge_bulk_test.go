package proxy_test

import (
	"bufio"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"weir/proxy/enginetest"
)

const bulkExtra = 32 << 20 // how much memory may grow for one bulk body each way

// bulk is far more than may be in memory, and than buffers of connections hold.
var bulk = int64(enginetest.Scaled(200, 80)) << 20

// pattern is a stream of size bytes that no other offset repeats soon.
type pattern struct{ off, size int64 }

var patternBlock = func() (b [65521]byte) {
	for i := range b {
		b[i] = byte(i*i>>7 ^ i)
	}
	return b
}()

func (p *pattern) Read(b []byte) (int, error) {
	b = b[:min(int64(len(b)), p.size-p.off)]
	if len(b) == 0 {
		return 0, io.EOF
	}
	n := copy(b, patternBlock[p.off%int64(len(patternBlock)):])
	p.off += int64(n)
	return n, nil
}

func patternSum(size int64) uint32 {
	h := crc32.NewIEEE()
	io.Copy(h, &pattern{size: size})
	return h.Sum32()
}

// slowSink checks sums what it gets, takes nothing for a while, and then pauses now and then.
type slowSink struct {
	sum   uint32
	n     int64
	pause time.Duration // the first, then 1 ms every 4 MiB
}

func (s *slowSink) Write(b []byte) (int, error) {
	if s.n>>22 != (s.n+int64(len(b)))>>22 || s.n == 0 {
		time.Sleep(s.pause)
		s.pause = time.Millisecond
	}
	s.sum = crc32.Update(s.sum, crc32.IEEETable, b)
	s.n += int64(len(b))
	return len(b), nil
}

// heapGrowth runs f and returns by how much the heap in use grew meanwhile at most.
func heapGrowth(f func()) int64 {
	inUse := func() int64 {
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapInuse + m.StackInuse)
	}
	runtime.GC()
	before, most := inUse(), int64(0)
	stop, stopped := make(chan bool), make(chan bool)
	go func() {
		defer close(stopped)
		for tick := time.NewTicker(10 * time.Millisecond); ; {
			most = max(most, inUse()-before)
			select {
			case <-stop:
				return
			case <-tick.C:
			}
		}
	}()
	f()
	close(stop)
	<-stopped
	return most
}

// TestEdgeBulkBodies moves 200 MB (80 under the race detector) each way past a slow reader, sized and chunked.
func TestEdgeBulkBodies(t *testing.T) {
	want := patternSum(bulk)
	for _, framing := range []string{fmt.Sprintf("Content-Length: %d", bulk), "Transfer-Encoding: chunked"} {
		chunked := strings.HasPrefix(framing, "T")
		ep := newEndpoint(t, func(s *served) {
			s.SetDeadline(time.Now().Add(time.Minute))
			for m := s.head(); m != nil; m = s.head() {
				sink := &slowSink{pause: 300 * time.Millisecond}
				if s.rest(m, sink) == nil {
					return
				}
				if m.method() == "POST" {
					s.send(fmt.Sprintf("HTTP/1.1 200 OK\r\nX-Sum: %d\r\nContent-Length: 0\r\n\r\n", sink.sum))
					continue
				}
				s.send("HTTP/1.1 200 OK\r\n" + framing + "\r\n\r\n")
				sendPattern(s.Conn, chunked)
			}
		})
		r := start(t, setup{endpoints: []string{ep.addr}, listener: "limits: {body: 1GiB}"})
		t.Run("up, "+framing[:8], func(t *testing.T) {
			c := r.dial(t)
			c.SetDeadline(time.Now().Add(time.Minute))
			grew := heapGrowth(func() {
				c.send("POST /up HTTP/1.1\r\nHost: h\r\n" + framing + "\r\n\r\n")
				sendPattern(c.Conn, chunked)
				if m := c.answer("POST"); m.status() != 200 || m.get("X-Sum") != fmt.Sprint(want) {
					t.Errorf("answered with %q, checksum %s, want %d", m.start, m.get("X-Sum"), want)
				}
			})
			if grew > bulkExtra {
				t.Errorf("memory grew by %d MiB", grew>>20)
			}
		})
		t.Run("down, "+framing[:8], func(t *testing.T) {
			c := r.dial(t)
			c.SetDeadline(time.Now().Add(time.Minute))
			grew := heapGrowth(func() {
				c.send("GET /down HTTP/1.1\r\nHost: h\r\n\r\n")
				m, err := c.readHead()
				if err != nil {
					t.Fatal(err)
				}
				sink := &slowSink{pause: 300 * time.Millisecond}
				if err := c.readResponseBody(m, "GET", sink); err != nil || m.size != bulk || sink.sum != want {
					t.Errorf("%d bytes with checksum %d, want %d with %d; %v", m.size, sink.sum, bulk, want, err)
				}
			})
			if grew > bulkExtra {
				t.Errorf("memory grew by %d MiB", grew>>20)
			}
		})
	}
}

// sendPattern writes the bulk body with one of the framings.
func sendPattern(w io.Writer, chunked bool) {
	body := &pattern{size: bulk}
	if !chunked {
		io.CopyBuffer(struct{ io.Writer }{w}, body, make([]byte, 256<<10))
		return
	}
	bw := bufio.NewWriterSize(w, 256<<10)
	buf := make([]byte, 30_000)
	for {
		n, err := body.Read(buf)
		if err != nil {
			break
		}
		fmt.Fprintf(bw, "%x\r\n%s\r\n", n, buf[:n])
	}
	bw.WriteString("0\r\n\r\n")
	bw.Flush()
}

// TestEdgeManySlowReaders: memory for a stream stays bounded when there are many.
func TestEdgeManySlowReaders(t *testing.T) {
	const clients = 50
	ep := newEndpoint(t, func(s *served) {
		if s.request() != nil {
			s.send("HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
			io.Copy(s.Conn, io.LimitReader(repeated("x"), 1_000_000_000))
		}
	})
	r := start(t, setup{endpoints: []string{ep.addr}})
	grew := heapGrowth(func() {
		for range clients {
			c := r.dial(t)
			c.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n")
			if _, err := c.readHead(); err != nil {
				t.Fatal(err)
			}
		}
		before := time.Now()
		eventually(t, "the streams to fill up", func() bool { return time.Since(before) > 500*time.Millisecond })
	})
	if grew > clients*600<<10 {
		t.Errorf("memory grew by %d KiB for each of %d stalled streams", grew>>10/clients, clients)
	}
}

const descriptorsChild = "WEIR_EDGE_DESCRIPTORS"

// TestEdgeDescriptorsRunOut: 200 connections at a limit of 64 open files. weir neither ends nor
// spins, and serves again as soon as it can. The proxy runs in a process of its own.
func TestEdgeDescriptorsRunOut(t *testing.T) {
	if addr := os.Getenv(descriptorsChild); addr != "" {
		descriptorsProxy(t, addr)
		return
	}
	ep := newEndpoint(t, serveOK)
	cmd := exec.Command(os.Args[0], "-test.run=^TestEdgeDescriptorsRunOut$")
	cmd.Env = append(os.Environ(), descriptorsChild+"="+ep.addr)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	ask := func() string {
		fmt.Fprintln(in)
		for lines.Scan() {
			if s, ok := strings.CutPrefix(lines.Text(), "child: "); ok {
				return s
			}
		}
		t.Fatal("the proxy's process ended")
		return ""
	}
	r := &running{addr: ask()}

	clients := make([]*client, 200)
	for i := range clients {
		clients[i] = r.dial(t)
		clients[i].send("GET / HTTP/1.1\r\nHost: h\r\n\r\n")
	}
	if m := clients[0].answer("GET"); m.status() != 200 {
		t.Errorf("the first was answered with %q", m.start)
	}
	settled := time.Now()
	eventually(t, "the limit to be felt", func() bool { return time.Since(settled) > 300*time.Millisecond })
	cpu, began := microseconds(ask()), time.Now()
	eventually(t, "half a second", func() bool { return time.Since(began) > 500*time.Millisecond })
	if used := microseconds(ask()) - cpu; used > 250*time.Millisecond {
		t.Errorf("%v of processor time in half a second without work", used)
	}
	for _, c := range clients {
		c.Close()
	}
	for range 20 {
		c := r.dial(t)
		if m := c.get("/"); m.status() != 200 {
			t.Errorf("afterwards: %q %s", m.start, m.body)
		}
		c.Close()
	}
	in.Close()
	if err := cmd.Wait(); err != nil {
		t.Errorf("the proxy's process: %v", err)
	}
}

func microseconds(s string) time.Duration {
	n, _ := strconv.Atoi(s)
	return time.Duration(n) * time.Microsecond
}

// descriptorsProxy serves until standard input ends; it answers the first line there with its
// address and each further one with the processor time used so far.
func descriptorsProxy(t *testing.T, endpoint string) {
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: 64, Max: 64}); err != nil {
		t.Fatal(err)
	}
	r := start(t, setup{endpoints: []string{endpoint}})
	if logs := r.logs.String(); !strings.Contains(logs, `"connections":24,"configured":100000}`) {
		t.Errorf("the log does not say how many connections 64 open files allow:\n%s", logs)
	}
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() {
		answer := r.addr
		if r.yaml == "" {
			var u syscall.Rusage
			if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
				t.Fatal(err)
			}
			answer = fmt.Sprint((u.Utime.Nano() + u.Stime.Nano()) / 1000)
		}
		r.yaml = ""
		fmt.Printf("\nchild: %s\n", answer)
	}
}
