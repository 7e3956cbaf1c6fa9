package proxy_test

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/tls"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/chacha20poly1305"
)

// sealer makes records of TLS 1.3 as a client does, where crypto/tls has no way to ask for new keys.
type sealer struct {
	t      testing.TB
	suite  uint16
	secret []byte
	aead   cipher.AEAD
	iv     []byte
	seq    uint64
}

// newSealer takes over the client's side from the end of a handshake whose keys are in log.
func newSealer(t testing.TB, suite uint16, log string) *sealer {
	t.Helper()
	_, rest, _ := strings.Cut(log, "CLIENT_TRAFFIC_SECRET_0 ")
	words := strings.Fields(rest)
	if len(words) < 2 {
		t.Fatalf("no secret in %q", log)
	}
	secret, err := hex.DecodeString(words[1])
	if err != nil {
		t.Fatal(err)
	}
	s := &sealer{t: t, suite: suite}
	s.use(secret)
	return s
}

// expand is HKDF-Expand-Label (RFC 8446, 7.1).
func (s *sealer) expand(label string, n int) []byte {
	info := binary.BigEndian.AppendUint16(nil, uint16(n))
	info = append(append(append(info, byte(len("tls13 ")+len(label))), "tls13 "+label...), 0)
	b, err := hkdf.Expand(sha256.New, s.secret, string(info), n)
	if err != nil {
		s.t.Fatal(err)
	}
	return b
}

func (s *sealer) use(secret []byte) {
	s.secret, s.seq = secret, 0
	var err error
	switch s.suite {
	case tls.TLS_AES_128_GCM_SHA256:
		var block cipher.Block
		if block, err = aes.NewCipher(s.expand("key", 16)); err == nil {
			s.aead, err = cipher.NewGCM(block)
		}
	case tls.TLS_CHACHA20_POLY1305_SHA256:
		s.aead, err = chacha20poly1305.New(s.expand("key", 32))
	default:
		s.t.Fatalf("the sides have agreed to %s", tls.CipherSuiteName(s.suite))
	}
	if err != nil {
		s.t.Fatal(err)
	}
	s.iv = s.expand("iv", 12)
}

// record appends a record with this content (RFC 8446, 5.2).
func (s *sealer) record(b []byte, kind byte, content string) []byte {
	head := []byte{23, 3, 3, 0, 0}
	binary.BigEndian.PutUint16(head[3:], uint16(len(content)+1+s.aead.Overhead()))
	nonce := bytes.Clone(s.iv)
	for i := range 8 {
		nonce[4+i] ^= byte(s.seq >> (56 - 8*i))
	}
	s.seq++
	return s.aead.Seal(append(b, head...), nonce, append([]byte(content), kind), head)
}

// newKeys appends a KeyUpdate that asks for one in return, and goes on with the next keys.
func (s *sealer) newKeys(b []byte) []byte {
	b = s.record(b, 22, "\x18\x00\x00\x01\x01")
	s.use(s.expand("traffic upd", sha256.Size))
	return b
}

// TestEdgeTLSNewKeys: a client may ask for new keys now and then, and as often as it likes while it sends much; one that
// asks all the time is ended, and holds up nobody before.
func TestEdgeTLSNewKeys(t *testing.T) {
	alongside(t)
	const size = 60 << 20
	k := newKeeper(t)
	var sizes sync.Map
	addr := newH1(t, func(w http.ResponseWriter, q *http.Request) {
		n, _ := io.Copy(io.Discard, q.Body)
		sizes.Store(q.URL.Path, n)
		_, _ = io.WriteString(w, "ok")
	})
	r := secured(t, k, "", setup{endpoints: []string{addr}, listener: "limits: {body: 64MiB}\n"})
	for name, c := range map[string]struct {
		piece int // bytes between two requests for new keys
		ends  bool
	}{
		"/with/much":    {100 << 10, false},
		"/with/little":  {1, true},
		"/with/nothing": {0, true},
	} {
		t.Run(name[1:], func(t *testing.T) {
			nc := r.narrow(t)
			_ = nc.SetDeadline(time.Now().Add(3 * patience))
			var log bytes.Buffer
			config := k.client()
			config.KeyLogWriter, config.MinVersion = &log, tls.VersionTLS13
			tc := tls.Client(nc, config)
			if err := tc.Handshake(); err != nil {
				t.Fatal(err)
			}
			s := newSealer(t, tc.ConnectionState().CipherSuite, log.String())
			if !c.ends { // what comes is not looked at: crypto/tls takes new keys only so often as a client
				go func() { _, _ = io.Copy(io.Discard, nc) }()
			}
			_, failed := nc.Write(s.record(nil, 23, fmt.Sprintf("POST %s HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n", name, size)))
			sent, updates := 0, 0
			for ; failed == nil && sent < size && updates < 100_000; updates++ {
				b := s.newKeys(nil)
				for left := min(c.piece, size-sent); left > 0; {
					n := min(left, 16<<10)
					b = s.record(b, 23, strings.Repeat("x", n))
					left, sent = left-n, sent+n
				}
				_, failed = nc.Write(b)
			}
			if c.ends {
				if failed == nil {
					t.Errorf("weir has taken %d requests for new keys", updates)
				}
				eventually(t, "the end of the connection", func() bool { return sum(r.metrics(t), "weir_connections") == 0 })
				return
			}
			if failed != nil {
				t.Fatalf("the connection has ended behind %d bytes and %d requests for new keys: %v", sent, updates, failed)
			}
			eventually(t, "all of the body", func() bool { n, _ := sizes.Load(name); return n == int64(size) })
			if updates < 2*256 {
				t.Errorf("only %d requests for new keys", updates)
			}
			_ = nc.Close()
			eventually(t, "the end of the connection", func() bool { return sum(r.metrics(t), "weir_connections") == 0 })
		})
	}
}
