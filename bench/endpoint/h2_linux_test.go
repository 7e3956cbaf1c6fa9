package endpoint

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/encoding"
)

// h2client is net/http's, by prior knowledge.
func h2client(t *testing.T) *http.Client {
	t.Helper()
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	transport := &http.Transport{Protocols: protocols}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

func TestAnswersOverHTTP2(t *testing.T) {
	client := h2client(t)
	for _, address := range serving(t) {
		for range 2 { // the second time the fields are known
			wantAnswers(t, client, address, 2)
		}
	}
}

// plain passes bytes as messages.
type plain struct{}

func (plain) Name() string                  { return "plain" }
func (plain) Marshal(v any) ([]byte, error) { return *v.(*[]byte), nil }
func (plain) Unmarshal(b []byte, v any) error {
	*v.(*[]byte) = bytes.Clone(b)
	return nil
}

var _ encoding.Codec = plain{}

func grpcClient(t *testing.T) *grpc.ClientConn {
	t.Helper()
	c, err := grpc.NewClient(serving(t)[0], grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDefaultCallOptions(grpc.ForceCodec(plain{})))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func TestAnswersByGRPC(t *testing.T) {
	c := grpcClient(t)
	for _, size := range []int{0, 33, 1_000_000} {
		for range 3 {
			request, answer := make([]byte, size), []byte(nil)
			if err := c.Invoke(t.Context(), fmt.Sprintf("/a.B/C?size=%d", size), &request, &answer); err != nil || len(answer) != size {
				t.Errorf("%d bytes, %v; want %d", len(answer), err, size)
			}
		}
	}
}

// stamped checks that an event tells a moment between two.
func stamped(t *testing.T, stamp string, from time.Time) {
	t.Helper()
	ns, err := strconv.ParseInt(stamp, 10, 64)
	if at := time.Unix(0, ns); err != nil || at.Before(from) || at.After(time.Now()) {
		t.Errorf("an event of %v (%q, %v)", at, stamp, err)
	}
}

func TestStreamsMessages(t *testing.T) {
	c := grpcClient(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	began := time.Now()
	s, err := c.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, "/a.B/C?every=2ms&size=50")
	if err != nil {
		t.Fatal(err)
	}
	request := []byte("x")
	if err := s.SendMsg(&request); err != nil {
		t.Fatal(err)
	}
	if err := s.CloseSend(); err != nil {
		t.Fatal(err)
	}
	for range 10 {
		var m []byte
		if err := s.RecvMsg(&m); err != nil || len(m) != 50 {
			t.Fatalf("%q, %v", m, err)
		}
		stamped(t, string(m[:StampLen]), began)
	}
	if took := time.Since(began); took < 18*time.Millisecond {
		t.Errorf("10 events, one each 2 ms, took %v", took)
	}
}

func TestStreamsEvents(t *testing.T) {
	address := serving(t)[0]
	defer http.DefaultClient.CloseIdleConnections()
	for _, client := range []*http.Client{http.DefaultClient, h2client(t)} {
		for range 2 {
			began := time.Now()
			resp, err := client.Get("http://" + address + "/events?every=2ms&size=40")
			if err != nil {
				t.Fatal(err)
			}
			if kind := resp.Header.Get("Content-Type"); kind != "text/event-stream" {
				t.Errorf("Content-Type %q", kind)
			}
			lines := bufio.NewScanner(resp.Body)
			for i := range 20 {
				if !lines.Scan() {
					t.Fatal(lines.Err())
				}
				line := lines.Text()
				if i%2 == 1 {
					if line != "" {
						t.Errorf("line %d is %q", i, line)
					}
					continue
				}
				data, ok := strings.CutPrefix(line, "data: ")
				if !ok || len(data) != 40 {
					t.Fatalf("line %d is %q", i, line)
				}
				stamped(t, data[:StampLen], began)
			}
			if took := time.Since(began); took < 18*time.Millisecond {
				t.Errorf("10 events, one each 2 ms, took %v", took)
			}
			resp.Body.Close()
		}
	}
}

// Windows bound what is sent; what does not fit goes when they open.
func TestKeepsToWindows(t *testing.T) {
	c, err := net.Dial("tcp", serving(t)[0])
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(30 * time.Second))
	_, _ = io.WriteString(c, http2.ClientPreface)
	f := http2.NewFramer(c, c)
	_ = f.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 10}, http2.Setting{ID: http2.SettingHeaderTableSize, Val: 0})
	// :method GET, :scheme http, :path /?size=33, without the table.
	_ = f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: []byte("\x82\x86\x04\x09/?size=33"), EndStream: true, EndHeaders: true})
	var got []string
	for opened := 0; ; {
		fr, err := f.ReadFrame()
		if err != nil {
			t.Fatal(err)
		}
		switch fr := fr.(type) {
		case *http2.HeadersFrame:
			got = append(got, "head")
		case *http2.DataFrame:
			got = append(got, fmt.Sprint(len(fr.Data())))
			if fr.StreamEnded() {
				if s := strings.Join(got, " "); s != "head 10 20 3" {
					t.Errorf("it came as %s; want 10, 20 and 3 bytes", s)
				}
				return
			}
			opened++
			_ = f.WriteWindowUpdate(1, uint32(10*(opened+1)))
		case *http2.PingFrame, *http2.GoAwayFrame:
			t.Fatalf("%v", fr)
		}
	}
}

func TestRefusesWhatIsNoHTTP2(t *testing.T) {
	address := serving(t)[0]
	for name, text := range map[string]string{
		"huge frame":   "\x01\x00\x00\x00\x00\x00\x00\x00\x01",
		"continuation": "\x00\x00\x00\x09\x04\x00\x00\x00\x01",
		"bad fields":   "\x00\x00\x03\x01\x05\x00\x00\x00\x01\xff\xff\xff",
		"bad size":     "\x00\x00\x0a\x01\x05\x00\x00\x00\x01\x04\x08/?size=x",
	} {
		got := exchange(t, address, http2.ClientPreface[:10], http2.ClientPreface[10:]+text)
		f := http2.NewFramer(io.Discard, strings.NewReader(got))
		var last http2.Frame
		for {
			fr, err := f.ReadFrame()
			if err != nil {
				break
			}
			last = fr
		}
		if goAway, ok := last.(*http2.GoAwayFrame); !ok || goAway.ErrCode == http2.ErrCodeNo {
			t.Errorf("%s: ends with %v, want GOAWAY", name, last)
		}
	}
}
