package telemetry

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// output is an access log's output under a test's control.
type output struct {
	mu     sync.Mutex
	buf    bytes.Buffer
	writes int
	closed bool
	fail   error
	block  chan struct{} // nil: writes return at once
}

func (o *output) Write(p []byte) (int, error) {
	if o.block != nil {
		<-o.block
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.writes++
	if o.fail != nil {
		return 0, o.fail
	}
	return o.buf.Write(p)
}

func (o *output) Close() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.closed = true
	return nil
}

func (o *output) text() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}

func exampleEntry() *AccessEntry {
	return &AccessEntry{
		Time:      time.Date(2026, 1, 2, 4, 4, 5, 6_700_000, time.FixedZone("CET", 3600)),
		RequestID: []byte("id-1"), TraceID: []byte("4bf92f3577b34da6a3ce929d0e0e4736"), Client: []byte("192.0.2.1"), User: "alice",
		Protocol: "HTTP/2", Method: []byte("POST"), Host: []byte("ml.example.com"), Path: []byte("/predict"), UserAgent: []byte("curl/8"),
		Route: "predict", Variant: "blue", Version: "v1.0.0", Endpoint: "127.0.0.1:8001", Cache: "miss",
		Attempts: 1, Status: 200, GRPCStatus: "NOT_FOUND", BytesIn: 12, BytesOut: 34,
		Duration: 1234567 * time.Nanosecond, Connect: 45 * time.Microsecond, FirstByte: 1200 * time.Microsecond,
	}
}

func TestAccessLogLine(t *testing.T) {
	var out output
	l := NewAccessLog(&out, 0)
	l.Write(exampleEntry())
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	want := `{"timestamp":"2026-01-02T03:04:05.006Z","level":"info","logger":"weir.access","message":"request",` +
		`"request_id":"id-1","trace_id":"4bf92f3577b34da6a3ce929d0e0e4736","client":"192.0.2.1","user":"alice","protocol":"HTTP/2","method":"POST",` +
		`"host":"ml.example.com","path":"/predict","route":"predict","variant":"blue","model_version":"v1.0.0",` +
		`"endpoint":"127.0.0.1:8001","cache":"miss","attempts":1,"status":200,"grpc_status":"NOT_FOUND","bytes_in":12,"bytes_out":34,` +
		`"latency_ms":1.234,"connect_ms":0.045,"first_byte_ms":1.200,"user_agent":"curl/8"}` + "\n"
	if diff := cmp.Diff(want, out.text()); diff != "" {
		t.Error(diff)
	}
	if !out.closed {
		t.Error("Close left the output open")
	}
}

func TestAccessLogEscapesWhatAClientSent(t *testing.T) {
	tests := []struct{ name, in, want string }{
		{"newline", "a\r\nb", `a\u000d\u000ab`},
		{"escape sequence", "\x1b[31m", `\u001b[31m`},
		{"quote and backslash", `"\`, `\"\\`},
		{"delete", "\x7f", `\u007f`},
		{"C1 control sequence introducer", "\u009b31m", `\u009b31m`},
		{"line separators", "\u2028\u2029", `\u2028\u2029`},
		{"invalid UTF-8", "a\xffb\xc3", `a\ufffdb\ufffd`},
		{"letters of the world", "größe 模型 🙂", "größe 模型 🙂"},
		{"a true replacement character", "\ufffd", "\ufffd"},
		{"too long", strings.Repeat("x", maxValue+1), strings.Repeat("x", maxValue) + "…"},
		{"cut inside a rune", strings.Repeat("x", maxValue-1) + "é", strings.Repeat("x", maxValue-1) + `\ufffd…`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			line := string((&AccessEntry{Path: []byte(tt.in), Error: tt.in}).appendJSON(nil))
			if n := strings.Count(line, "\n"); n != 1 {
				t.Errorf("%d line ends in %q", n, line)
			}
			decodeLines(t, line)
			for _, key := range []string{"path", "error"} {
				if want := `"` + key + `":"` + tt.want + `"`; !strings.Contains(line, want) {
					t.Errorf("%q is not in %q", want, line)
				}
			}
		})
	}
}

func TestAccessLogNeverWaitsForTheOutput(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		out := &output{block: make(chan struct{})}
		l := NewAccessLog(out, 4096)
		const n = 1000
		for range n {
			l.Write(exampleEntry()) // would deadlock, and fail the test, if it waited
		}
		if l.Dropped() == 0 || l.Dropped() >= n {
			t.Errorf("%d of %d lines dropped, want some and not all", l.Dropped(), n)
		}
		close(out.block)
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		if got := uint64(len(decodeLines(t, out.text()))); got+l.Dropped() != n {
			t.Errorf("%d written + %d dropped, want %d", got, l.Dropped(), n)
		}
	})
}

func TestAccessLogFlushesInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out output
		l := NewAccessLog(&out, 1<<20)
		l.Write(exampleEntry())
		time.Sleep(flushInterval)
		synctest.Wait()
		if out.text() == "" {
			t.Errorf("nothing written after %s", flushInterval)
		}
		start := time.Now()
		before := out.writes
		for len(out.text()) < 1<<19 && time.Since(start) == 0 {
			l.Write(exampleEntry())
			synctest.Wait()
		}
		if out.writes != before+1 || time.Since(start) != 0 {
			t.Errorf("a half full buffer was written %d times after %s, want once and at once", out.writes-before, time.Since(start))
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

func TestAccessLogCloseDoesNotHang(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		out := &output{block: make(chan struct{})}
		l := NewAccessLog(out, 4096)
		l.Write(exampleEntry())
		start := time.Now()
		if err := l.Close(); err == nil || time.Since(start) != closeWait {
			t.Errorf("Close = %v after %s, want an error after %s", err, time.Since(start), closeWait)
		}
		l.Write(exampleEntry()) // after Close: no panic
		close(out.block)
	})
}

func TestAccessLogOutputFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		out := &output{fail: errors.New("disk full")}
		var reports []error
		l := NewAccessLog(&reportingWriter{name: "file", w: out, report: func(err error) { reports = append(reports, err) }}, 4096)
		for range 3 {
			l.Write(exampleEntry())
			time.Sleep(flushInterval)
			synctest.Wait()
		}
		if l.Dropped() != 3 || len(reports) != 1 {
			t.Errorf("dropped %d, reported %v, want 3 and one report", l.Dropped(), reports)
		}
		if err := l.Close(); !errors.Is(err, out.fail) {
			t.Errorf("Close = %v, want %v", err, out.fail)
		}
	})
}

func TestAccessLogSetOutput(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		first, second, third := &output{}, &output{}, &output{}
		l := NewAccessLog(first, 0)
		l.Write(&AccessEntry{Route: "one"})
		l.SetOutput(second)
		synctest.Wait()
		if !first.closed || !strings.Contains(first.text(), `"one"`) {
			t.Errorf("first output: closed %v, text %q", first.closed, first.text())
		}
		l.Write(&AccessEntry{Route: "two"})
		l.SetOutput(nil)
		if l.Enabled() {
			t.Error("enabled without an output")
		}
		l.Write(&AccessEntry{Route: "unseen"})
		synctest.Wait()
		l.SetOutput(third)
		l.Write(&AccessEntry{Route: "three"})
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		for name, o := range map[string]*output{"two": second, "three": third} {
			if got := decodeLines(t, o.text()); len(got) != 1 || got[0]["route"] != name || !o.closed {
				t.Errorf("output %s: closed %v, %v", name, o.closed, got)
			}
		}
		if l.Dropped() != 0 {
			t.Errorf("%d dropped", l.Dropped())
		}
		late := &output{}
		l.SetOutput(late)
		if !late.closed {
			t.Error("an output given after Close stays open")
		}
	})
}

func TestNilAccessLogIsOff(t *testing.T) {
	var l *AccessLog
	l.Write(exampleEntry())
	l.SetOutput(nil)
	if l.Enabled() || l.Dropped() != 0 || l.Close() != nil {
		t.Error("a nil access log does something")
	}
}

func TestAccessLogUnderConcurrentWriters(t *testing.T) {
	var out output
	l := NewAccessLog(&out, 16<<10)
	var wg sync.WaitGroup
	const writers, each = 8, 500
	for range writers {
		wg.Go(func() {
			for range each {
				l.Write(exampleEntry())
			}
		})
	}
	wg.Wait()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if got := uint64(len(decodeLines(t, out.text()))); got+l.Dropped() != writers*each {
		t.Errorf("%d written + %d dropped, want %d", got, l.Dropped(), writers*each)
	}
}

func TestOpenAccessLog(t *testing.T) {
	file := filepath.Join(t.TempDir(), "access.log")
	for range 2 { // the second time appends
		w, err := OpenAccessLog(file, nil)
		if err != nil {
			t.Fatal(err)
		}
		l := NewAccessLog(w, 0)
		l.Write(exampleEntry())
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if n := len(decodeLines(t, string(text))); n != 2 {
		t.Errorf("%d lines in the file, want 2", n)
	}
	if w, err := OpenAccessLog("off", nil); w != nil || err != nil {
		t.Errorf("off = %v, %v", w, err)
	}
	for _, name := range []string{"stdout", "stderr"} {
		w, err := OpenAccessLog(name, nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := w.(io.Closer).Close(); err != nil {
			t.Errorf("closing %s: %v", name, err)
		}
	}
	if _, err := os.Stdout.Stat(); err != nil {
		t.Errorf("closing the log closed stdout: %v", err)
	}
	for _, bad := range []string{"", filepath.Join(t.TempDir(), "no", "such", "folder")} {
		if _, err := OpenAccessLog(bad, nil); err == nil {
			t.Errorf("OpenAccessLog(%q) succeeded", bad)
		}
	}
}

func FuzzAccessEntry(f *testing.F) {
	f.Add("/predict", "curl\x1b[0m\r\n\"\\\xff")
	f.Fuzz(func(t *testing.T, path, agent string) {
		line := string((&AccessEntry{Path: []byte(path), UserAgent: []byte(agent)}).appendJSON(nil))
		if len(decodeLines(t, line)) != 1 {
			t.Fatalf("not one line: %q", line)
		}
		for _, r := range strings.TrimSuffix(line, "\n") {
			if r < 0x20 || r >= 0x7f && r < 0xa0 {
				t.Fatalf("control character %U in %q", r, line)
			}
		}
	})
}

func TestTimestampsAreWhatTheLayoutSays(t *testing.T) {
	zone := time.FixedZone("", 5*3600+1800)
	for _, at := range []time.Time{
		{}, time.Unix(0, 0), time.Date(2026, 11, 2, 3, 4, 5, 6e6+999_999, time.UTC), time.Date(2028, 2, 29, 23, 59, 59, 999_999_999, zone),
		time.Date(9999, 12, 31, 23, 59, 59, 10e6, time.UTC), time.Date(2026, 1, 1, 0, 0, 0, 0, zone),
	} {
		if got, want := string(appendTimestamp(nil, at)), at.UTC().Format(timestampLayout); got != want {
			t.Errorf("%v: %s, want %s", at, got, want)
		}
	}
}

func BenchmarkAccessLogWrite(b *testing.B) {
	l := NewAccessLog(io.Discard, 1<<22)
	defer func() { _ = l.Close() }()
	e := exampleEntry()
	b.ReportAllocs()
	for b.Loop() {
		l.Write(e)
	}
}
