package telemetry

import (
	"strconv"
	"time"
	"unicode/utf8"
)

// maxValue bounds in bytes what is logged of one value that a client sent; the rest is replaced by an ellipsis.
const maxValue = 2048

// AccessEntry is one request, as the access log tells it. The byte slices and strings may alias
// buffers of the request: Write copies what it needs. Empty text is left out of the line.
type AccessEntry struct {
	Time time.Time // when the request's head was complete

	// What the client sent.
	RequestID []byte
	TraceID   []byte
	Client    []byte // the client's address, without port
	User      string // who asks, verified: a user, the name of a key, or a token's sub
	// ClientCert is whom the client's certificate names.
	ClientCert string
	Protocol   string // HTTP/1.0, HTTP/1.1 or HTTP/2
	Method     []byte
	Host       []byte
	Path       []byte
	UserAgent  []byte

	// What weir decided.
	Route    string
	Variant  string // the pool that was chosen
	Version  string // of that pool; the key is model_version
	Endpoint string // of the last attempt
	Attempts int
	Cache    string // what the route's cache was to the request
	Error    string // the code of weir's own error, or why the answer was cut short

	Status     int
	GRPCStatus string // of a call of gRPC
	BytesIn    int64  // of the request's body
	BytesOut   int64  // of the answer's body

	Duration  time.Duration // the whole request; the key is latency_ms
	Connect   time.Duration // establishing the connection; 0 on one that was kept
	FirstByte time.Duration // until the answer's head
}

// appendJSON appends the entry as one line of JSON. It does not allocate beyond the growth of b.
func (e *AccessEntry) appendJSON(b []byte) []byte {
	b = append(b, `{"timestamp":"`...)
	b = appendTimestamp(b, e.Time)
	b = append(b, `","level":"info","logger":"weir.access","message":"request"`...)
	b = appendText(b, `,"request_id":"`, e.RequestID)
	b = appendText(b, `,"trace_id":"`, e.TraceID)
	b = appendText(b, `,"client":"`, e.Client)
	b = appendText(b, `,"user":"`, e.User)
	b = appendText(b, `,"client_cert":"`, e.ClientCert)
	b = appendText(b, `,"protocol":"`, e.Protocol)
	b = appendText(b, `,"method":"`, e.Method)
	b = appendText(b, `,"host":"`, e.Host)
	b = appendText(b, `,"path":"`, e.Path)
	b = appendText(b, `,"route":"`, e.Route)
	b = appendText(b, `,"variant":"`, e.Variant)
	b = appendText(b, `,"model_version":"`, e.Version)
	b = appendText(b, `,"endpoint":"`, e.Endpoint)
	b = appendText(b, `,"cache":"`, e.Cache)
	b = appendNumber(b, `,"attempts":`, int64(e.Attempts))
	b = appendNumber(b, `,"status":`, int64(e.Status))
	b = appendText(b, `,"grpc_status":"`, e.GRPCStatus)
	b = appendNumber(b, `,"bytes_in":`, e.BytesIn)
	b = appendNumber(b, `,"bytes_out":`, e.BytesOut)
	b = appendMillis(b, `,"latency_ms":`, e.Duration)
	b = appendMillis(b, `,"connect_ms":`, e.Connect)
	b = appendMillis(b, `,"first_byte_ms":`, e.FirstByte)
	b = appendText(b, `,"user_agent":"`, e.UserAgent)
	b = appendText(b, `,"error":"`, e.Error)
	return append(b, '}', '\n')
}

// appendTimestamp writes t as timestampLayout says, in a third of the time that package time takes to
// follow a layout.
func appendTimestamp(b []byte, t time.Time) []byte {
	t = t.UTC()
	year, month, day := t.Date()
	hour, minute, second := t.Clock()
	b = appendPair(appendPair(b, year/100), year%100)
	b = appendPair(append(b, '-'), int(month))
	b = appendPair(append(b, '-'), day)
	b = appendPair(append(b, 'T'), hour)
	b = appendPair(append(b, ':'), minute)
	b = appendPair(append(b, ':'), second)
	ms := t.Nanosecond() / 1e6
	return append(appendPair(append(b, '.'), ms/10), byte('0'+ms%10), 'Z')
}

// appendPair writes n, 0 to 99, as two digits.
func appendPair(b []byte, n int) []byte { return append(b, byte('0'+n/10), byte('0'+n%10)) }

func appendNumber(b []byte, key string, n int64) []byte {
	return strconv.AppendInt(append(b, key...), n, 10)
}

// appendMillis writes d in milliseconds with three decimals.
func appendMillis(b []byte, key string, d time.Duration) []byte {
	us := max(d.Microseconds(), 0)
	b = strconv.AppendInt(append(b, key...), us/1000, 10)
	us %= 1000
	return append(b, '.', byte('0'+us/100), byte('0'+us/10%10), byte('0'+us%10))
}

// appendText writes key and s as a JSON string that is harmless on a terminal and to whatever reads
// the log line by line: control characters (C0, DEL and C1, in which terminals see escape
// sequences), the line separators of Unicode, quotes and backslashes are escaped, invalid UTF-8
// becomes U+FFFD.
func appendText[T []byte | string](b []byte, key string, s T) []byte {
	if len(s) == 0 {
		return b
	}
	b = append(b, key...)
	cut := len(s) > maxValue
	if cut {
		s = s[:maxValue]
	}
	for i := 0; i < len(s); {
		plain := i
		for i < len(s) && plainText(s[i]) {
			i++
		}
		b = append(b, s[plain:i]...)
		if i == len(s) {
			break
		}
		if c := s[i]; c < utf8.RuneSelf {
			b = appendASCII(b, c)
			i++
			continue
		}
		r, size := decodeRune(s[i:])
		switch {
		case r == utf8.RuneError && size == 1:
			b = append(b, `\ufffd`...)
		case r < 0xa0, r == 0x2028, r == 0x2029:
			b = appendEscape(b, r)
		default:
			b = append(b, s[i:i+size]...)
		}
		i += size
	}
	if cut {
		b = append(b, "…"...)
	}
	return append(b, '"')
}

// plainText reports whether c is a character of its own that stands for itself in a JSON string.
func plainText(c byte) bool { return c >= ' ' && c < 0x7f && c != '"' && c != '\\' }

func decodeRune[T []byte | string](s T) (rune, int) {
	var buf [utf8.UTFMax]byte
	return utf8.DecodeRune(buf[:copy(buf[:], s)])
}

// appendASCII writes what is not plainText.
func appendASCII(b []byte, c byte) []byte {
	if c == '"' || c == '\\' {
		return append(b, '\\', c)
	}
	return appendEscape(b, rune(c))
}

func appendEscape(b []byte, r rune) []byte {
	const hex = "0123456789abcdef"
	return append(b, '\\', 'u', hex[r>>12&0xf], hex[r>>8&0xf], hex[r>>4&0xf], hex[r&0xf])
}
