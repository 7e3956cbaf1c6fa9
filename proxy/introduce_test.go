package proxy

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

// binaryIntroduction is a header of version 2 of this command, family and body.
func binaryIntroduction(command, family byte, body string) string {
	b := append([]byte(introductionMark), 0x20|command, family)
	return string(binary.BigEndian.AppendUint16(b, uint16(len(body)))) + body
}

// summed is a header of version 2 with its checksum, less wrong.
func summed(family byte, addresses string, wrong uint32) string {
	b := []byte(binaryIntroduction(1, family, addresses+"\x03\x00\x04\x00\x00\x00\x00"))
	sum := crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli))
	binary.BigEndian.PutUint32(b[len(b)-4:], sum-wrong)
	return string(b)
}

const (
	addresses4 = "\x01\x02\x03\x04\x0a\x00\x00\x01\x30\x39\x00\x50"
	addresses6 = "\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x07" + "\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01" + "\x30\x39\x00\x50"
)

func TestIntroduction(t *testing.T) {
	for header, want := range map[string]string{
		"PROXY TCP4 1.2.3.4 10.0.0.1 12345 80\r\n":                   "1.2.3.4",
		"PROXY TCP4 1.1.1.1 2.2.2.2 1 2\r\n":                         "1.1.1.1",
		"PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n": "255.255.255.255",
		"PROXY TCP6 2001:db8::7 ::1 12345 80\r\n":                    "2001:db8::7",
		"PROXY TCP6 :: :: 0 0\r\n":                                   "::",
		"PROXY TCP6 ::ffff:1.2.3.4 ::1 1 2\r\n":                      "1.2.3.4",
		"PROXY UNKNOWN\r\n":                                          "",
		"PROXY UNKNOWN ffff::1 whatever 1 2 and more\r\n":            "",
		"PROXY TCP6 " + strings.Repeat("ffff:", 7) + "ffff " + strings.Repeat("ffff:", 7) + "ffff 65535 65535\r\n": strings.Repeat("ffff:", 7) + "ffff",
		binaryIntroduction(1, 0x11, addresses4):                                           "1.2.3.4",
		binaryIntroduction(1, 0x21, addresses6):                                           "2001:db8::7",
		binaryIntroduction(1, 0x11, addresses4+"\x01\x00\x02h2"+"\x04\x00\x00"):           "1.2.3.4",
		binaryIntroduction(1, 0x11, addresses4+"\xee\x0f\x00"+strings.Repeat("x", 0xf00)): "1.2.3.4",
		summed(0x11, addresses4, 0):                                                       "1.2.3.4",
		binaryIntroduction(0, 0x11, addresses4):                                           "",
		binaryIntroduction(0, 0, ""):                                                      "",
		binaryIntroduction(1, 0, "anything"):                                              "",
		binaryIntroduction(1, 0x31, strings.Repeat("/", 216)):                             "",
	} {
		for name, stream := range map[string]io.Reader{
			"whole": strings.NewReader(header + "GET /"), "byte by byte": iotest.OneByteReader(strings.NewReader(header + "GET /")),
		} {
			in, err := readIntroduction(stream)
			client := in.client.Addr()
			if err != nil || want == "" && client.IsValid() || want != "" && client.String() != want {
				t.Errorf("%q, %s: %v, %v; want %q", header, name, client, err, want)
			}
			if rest, _ := io.ReadAll(stream); string(rest) != "GET /" {
				t.Errorf("%q, %s: left %q behind the header", header, name, rest)
			}
		}
		for n := range header {
			if client, err := readIntroduction(strings.NewReader(header[:n])); err == nil {
				t.Errorf("%q: %v, though the rest is missing", header[:n], client)
			}
		}
	}
}

func TestBadIntroduction(t *testing.T) {
	for _, header := range []string{
		"GET / HTTP/1.1\r\nHost: h\r\n\r\n",
		"proxy TCP4 1.2.3.4 10.0.0.1 1 2\r\n",
		"PROXY TCP4 1.2.3.4 10.0.0.1 12345 80\n",
		"PROXY TCP4 1.2.3.4 10.0.0.1 12345 80 \r\n",
		"PROXY TCP4  1.2.3.4 10.0.0.1 12345 80\r\n",
		"PROXY TCP4 1.2.3.4 10.0.0.1 12345\r\n",
		"PROXY TCP4 1.2.3.4 10.0.0.1 65536 80\r\n",
		"PROXY TCP4 1.2.3.4 10.0.0.1 -1 80\r\n",
		"PROXY TCP4 1.2.3.4 10.0.0.1 080 80\r\n",
		"PROXY TCP4 1.2.3.4 10.0.0.1 1 \r\n",
		"PROXY TCP4 ::1 ::1 1 2\r\n",
		"PROXY TCP6 1.2.3.4 10.0.0.1 1 2\r\n",
		"PROXY TCP6 fe80::1%eth0 ::1 1 2\r\n",
		"PROXY TCP4 1.2.3 10.0.0.1 1 2\r\n",
		"PROXY UDP4 1.2.3.4 10.0.0.1 1 2\r\n",
		"PROXY UNKNOWN " + strings.Repeat("x", 100) + "\r\n",
		"PROXY TCP4 " + strings.Repeat("1", 200) + "\r\n",
		strings.Replace(binaryIntroduction(1, 0x11, addresses4), "QUIT\n\x21", "QUIT\n\x11", 1), // version 1
		binaryIntroduction(2, 0x11, addresses4),
		binaryIntroduction(1, 0x11, addresses4[:11]),
		binaryIntroduction(1, 0x21, addresses4),
		binaryIntroduction(1, 0x11, addresses4+"\x01"),
		binaryIntroduction(1, 0x11, addresses4+"\x01\x00\x03h2"),
		binaryIntroduction(1, 0x11, addresses4+"\x03\x00\x03abc"),
		binaryIntroduction(1, 0x11, addresses4+strings.Repeat("x", 4<<10)),
		summed(0x11, addresses4, 1),
	} {
		if client, err := readIntroduction(strings.NewReader(header)); err == nil {
			t.Errorf("%q: %v", header, client)
		}
	}
}

// FuzzIntroduction: whatever is sent, no more is read than a header has.
func FuzzIntroduction(f *testing.F) {
	f.Add([]byte("PROXY TCP4 1.2.3.4 10.0.0.1 12345 80\r\n"))
	f.Add([]byte(binaryIntroduction(1, 0x11, addresses4+"\x01\x00\x02h2")))
	f.Fuzz(func(t *testing.T, b []byte) {
		r := bytes.NewReader(b)
		_, err := readIntroduction(r)
		read := b[:len(b)-r.Len()]
		if err == nil && !bytes.HasPrefix(b, []byte(introductionMark)) && (bytes.Count(read, []byte("\n")) != 1 || !bytes.HasSuffix(read, []byte("\r\n"))) {
			t.Errorf("read %q as a line", read)
		}
		if len(read) > longestIntroduction {
			t.Errorf("read %d bytes", len(read))
		}
	})
}
