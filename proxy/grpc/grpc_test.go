package grpc

import (
	"math"
	"net/url"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
)

// TestCodes: the numbers and names are gRPC's.
func TestCodes(t *testing.T) {
	for c := range Code(Codes) {
		var theirs codes.Code
		if err := theirs.UnmarshalJSON([]byte(`"` + c.String() + `"`)); err != nil || theirs != codes.Code(c) {
			t.Errorf("%d is %s; with gRPC that is %d, %v", c, c, theirs, err)
		}
		if back, ok := Named(c.String()); !ok || back != c {
			t.Errorf("Named(%s) = %d, %v", c, back, ok)
		}
	}
	if _, ok := Named("ok"); ok {
		t.Error("ok is a name")
	}
	for v, want := range map[string]Code{"0": OK, "16": Unauthenticated, "14": Unavailable, "07": PermissionDenied, "17": Unknown, "-1": Unknown, "": Unknown, "999": Unknown, "1a": Unknown} {
		if got := Parse([]byte(v)); got != want {
			t.Errorf("Parse(%q) = %s, want %s", v, got, want)
		}
	}
	for c := range Code(Codes) {
		want := c == Unknown || c == DeadlineExceeded || c == Internal || c == Unavailable || c == DataLoss
		if c.Fault() != want {
			t.Errorf("%s is a fault: %v", c, c.Fault())
		}
	}
	for status, want := range map[int]Code{400: Internal, 401: Unauthenticated, 403: PermissionDenied, 404: Unimplemented, 429: Unavailable, 502: Unavailable, 503: Unavailable, 504: Unavailable, 200: Unknown, 500: Unknown, 301: Unknown} {
		if got := FromHTTP(status); got != want {
			t.Errorf("FromHTTP(%d) = %s, want %s", status, got, want)
		}
	}
}

func TestContentType(t *testing.T) {
	for v, want := range map[string]bool{
		"application/grpc": true, "application/grpc+proto": true, "Application/GRPC+json": true, "application/grpc;x=1": true, "application/grpc ; x=1": true,
		"application/grpc-web": false, "application/grpc-web+proto": false, "application/grpcx": false, "application/json": false, "": false, "application/grp": false,
	} {
		if got := IsContentType([]byte(v)); got != want {
			t.Errorf("%q: %v", v, got)
		}
	}
}

func TestMessage(t *testing.T) {
	for text, want := range map[string]string{"plain text.": "plain text.", "": "", "100%\r\nü": "100%25%0D%0A%C3%BC", "\x7f~ ": "%7F~ "} {
		got := string(AppendMessage(nil, text))
		if back, err := url.PathUnescape(got); got != want || back != text || err != nil {
			t.Errorf("%q: %q, want %q; decoded %q, %v", text, got, want, back, err)
		}
	}
}

func TestTimeout(t *testing.T) {
	for v, want := range map[string]time.Duration{
		"1H": time.Hour, "2M": 2 * time.Minute, "30S": 30 * time.Second, "99999999m": 99999999 * time.Millisecond, "5u": 5000, "7n": 7, "0n": 0,
		"00000001S": time.Second, "99999999H": math.MaxInt64, "2562047H": 2562047 * time.Hour, "2562048H": math.MaxInt64,
	} {
		if got, ok := ParseTimeout([]byte(v)); !ok || got != want {
			t.Errorf("%q: %v, %v, want %v", v, got, ok, want)
		}
	}
	for _, v := range []string{"", "1", "S", "s", "1s", "1 S", "-1S", "+1S", "1.5S", "123456789n", "1SS", "0x1S"} {
		if got, ok := ParseTimeout([]byte(v)); ok {
			t.Errorf("%q: %v, want none", v, got)
		}
	}
	const day = 24 * time.Hour
	for _, c := range []struct {
		left, total time.Duration
		want        string
	}{
		{1500 * time.Millisecond, day, "1500m"}, {time.Microsecond, day, "1m"}, {-time.Second, day, "1m"}, {maxInUnit, maxInUnit, "99999999m"},
		{maxInUnit, 2 * maxInUnit, "99999S"}, {time.Millisecond, 2 * day, "1S"}, {math.MaxInt64, math.MaxInt64, "99999999S"},
	} {
		got := AppendTimeout(nil, c.left, c.total)
		if _, ok := ParseTimeout(got); string(got) != c.want || !ok {
			t.Errorf("%v of %v: %q, want %q", c.left, c.total, got, c.want)
		}
	}
}

func TestPushback(t *testing.T) {
	for v, want := range map[string]time.Duration{"0": 0, "1500": 1500 * time.Millisecond} {
		if got, again := Pushback([]byte(v)); !again || got != want {
			t.Errorf("%q: %v, %v", v, got, again)
		}
	}
	for _, v := range []string{"-1", "", "x", "1.5", "99999999999", "1s"} {
		if got, again := Pushback([]byte(v)); again {
			t.Errorf("%q: %v, want not again", v, got)
		}
	}
}
