package proxy_test

import (
	"fmt"
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"
)

// differences are why weir lets requests through that neither nginx nor HAProxy does. (What it reads otherwise than one of
// them does is a fault, whatever the reason.)
var differences = []struct {
	name, reason string
	is           func(input string, read []string) bool
}{
	{"method", "methods are tokens, their case has a meaning (RFC 9110, 9.1); nginx knows upper case alone", func(_ string, read []string) bool {
		return slices.ContainsFunc(read, func(r string) bool {
			method, _, _ := strings.Cut(r, " ")
			return method != strings.ToUpper(method)
		})
	}},
	{"tab", "a tab around a value is as good as a space (RFC 9110, 5.6.3), and is not passed on; nginx takes it for a part", func(input string, _ []string) bool {
		return strings.Contains(input, ":\t") || strings.Contains(input, "\t\r\n") || strings.Contains(input, "\t\n")
	}},
	{"absolute-form", "what Host says beside it is to be ignored (RFC 9112, 3.2.2), and the endpoint gets the target's; both refuse some values, HAProxy every other", func(input string, _ []string) bool {
		return absoluteForm.MatchString(input)
	}},
	{"not ASCII", "a byte beyond ASCII in a target reaches the endpoint as it came, and means nothing to any parser; HAProxy refuses it, nginx does not", func(_ string, read []string) bool {
		return slices.ContainsFunc(read, func(r string) bool { return strings.ContainsFunc(r, func(c rune) bool { return c >= utf8.RuneSelf }) })
	}},
}

var absoluteForm = regexp.MustCompile(`(?i)^\w+ https?://`)

// reviewed are the names of the differences that input shows.
func reviewed(input string, read []string) (names []string) {
	for _, d := range differences {
		if d.is(input, read) {
			names = append(names, d.name)
		}
	}
	return names
}

// doubtfulRequests are those of the table of fault classes, and more of their kind.
func doubtfulRequests() (all []string) {
	add := func(format string, args ...any) { all = append(all, fmt.Sprintf(format, args...)) }
	body := "0\r\n\r\n" + smuggled
	post := func(fields, body string) { add("POST /first HTTP/1.1\r\nHost: h\r\n%s\r\n%s", fields, body) }

	for _, te := range []string{
		"Transfer-Encoding: chunked", "Transfer-Encoding : chunked", "Transfer-Encoding\t: chunked", "Transfer-Encoding:chunked",
		"Transfer-Encoding:\tchunked", "Transfer-Encoding: chunked ", "Transfer-Encoding: chunked\t", "transfer-encoding: CHUNKED", "Transfer-Encoding: xchunked",
		"Transfer-Encoding: chunked, identity", "Transfer-Encoding: identity, chunked", "Transfer-Encoding: gzip, chunked",
		"Transfer-Encoding: chunked, chunked", "Transfer-Encoding: chunked chunked", "Transfer-Encoding: ,chunked", "Transfer-Encoding: chunked,",
		"Transfer-Encoding:\x0bchunked", "Transfer-Encoding: chunked\x0c", "\x0bTransfer-Encoding: chunked", "Transfer-Encoding: \"chunked\"",
		"Transfer-Encoding: chunked;p=1", "Transfer-Encoding: chunked\x00", "Transfer-Encoding: chun\x00ked", "Transfer-Encoding: identity",
		"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
		"Transfer-Encoding: identity\r\nTransfer-Encoding: chunked", "Transfer-Encoding: ", "Transfer-Encoding:", "Transfer-Encoding: chunked\nX: y",
		"X: y\nTransfer-Encoding: chunked", "X: y\rTransfer-Encoding: chunked", "X: y\r\rTransfer-Encoding: chunked", "Transfer-Encoding:\r\n chunked",
		"X: y\r\n Transfer-Encoding: chunked", "Transfer Encoding: chunked", "Transfer-Encoding chunked", "Transfer_Encoding: chunked", "Transfer-Encoding: \xef\xbb\xbfchunked",
		"Tran\u017ffer-Encoding: chunked", "Transfer-Encoding: chun\xe9ked", "TE: chunked", "X: y\r\n\tTransfer-Encoding: chunked", "Connection: Transfer-Encoding\r\nTransfer-Encoding: chunked",
	} {
		post(te+"\r\n", body)
		post(te+"\r\n", "5\r\nhello\r\n0\r\n\r\n")
		post(fmt.Sprintf("%s\r\nContent-Length: %d\r\n", te, len(body)), body)
		post(fmt.Sprintf("Content-Length: 5\r\n%s\r\n", te), body)
	}
	add("POST /first HTTP/1.0\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n%s", body)
	add("POST /first HTTP/1.0\r\nHost: h\r\nConnection: keep-alive\r\nContent-Length: 5\r\n\r\nhello%s", smuggled)

	for _, cl := range []string{"5|6", "6|5", "5, 6", "+5", "-5", "0x5", "5.0", "5 5", "5;", "", " ", "5_0", "\u0665", "5\x00", "9223372036854775808",
		"18446744073709551621", "5|5", "5, 5", "5,", ",5", "5", " 5\t", "05", "0005", "0", "00", "5e0", "\x0b5", "5\x0c", "5\r", "\t5", "1", "999"} {
		fields := ""
		for v := range strings.SplitSeq(cl, "|") {
			fields += "Content-Length: " + v + "\r\n"
		}
		post(fields, "hello")
		post(fields, "hello"+smuggled)
	}
	for _, line := range []string{"Content-Length : 5", "Content-Length\t: 5", " Content-Length: 5", "Content Length: 5", "Content_Length: 5", "Content-Length:5", "CONTENT-LENGTH: 5",
		"Content-Length:\r\n 5", "X: y\nContent-Length: 5", "X: y\rContent-Length: 5", "Connection: Content-Length\r\nContent-Length: 5", "Content-Length 5", "\x00Content-Length: 5", "Content-Length\x00: 5"} {
		post(line+"\r\n", "hello"+smuggled)
	}
	for _, method := range []string{"GET", "HEAD", "DELETE", "OPTIONS", "PATCH", "FOO", "get", "TRACE", "CONNECT"} {
		add("%s /first HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n%s", method, len(smuggled), smuggled)
		add("%s /first HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n", method, len(smuggled), smuggled)
		add("%s /first HTTP/1.1\r\nHost: h\r\n\r\n%s", method, smuggled)
	}
	for _, chunks := range []string{
		"FFFFFFFFFFFFFFFFF\r\nhello\r\n0\r\n\r\n", "10000000000000005\r\nhello\r\n0\r\n\r\n", "FFFFFFFFFFFFFFFF\r\nhello\r\n0\r\n\r\n", "8000000000000000\r\nhello\r\n0\r\n\r\n",
		"-5\r\nhello\r\n0\r\n\r\n", "+5\r\nhello\r\n0\r\n\r\n", "0x5\r\nhello\r\n0\r\n\r\n", "\r\nhello\r\n0\r\n\r\n", "5_0\r\nhello\r\n0\r\n\r\n", "g\r\nhello\r\n0\r\n\r\n",
		" 5\r\nhello\r\n0\r\n\r\n", "5 \r\nhello\r\n0\r\n\r\n", "5\t\r\nhello\r\n0\r\n\r\n", "5 5\r\nhello\r\n0\r\n\r\n", "5\x00\r\nhello\r\n0\r\n\r\n", "3\r\nhello\r\n0\r\n\r\n",
		"5\r\nhelloX0\r\n\r\n", "5\r\nhello0\r\n\r\n", "5\r\nhello\r0\r\n\r\n", "5\r\nhello\n0\r\n\r\n", "5\nhello\r\n0\r\n\r\n", "5\rhello\r\n0\r\n\r\n", "5\r\nhello\r\n0\n\n",
		"5\r\nhello\r\n0\r\n\n", "5\r\nhello\r\n0\n\r\n", "5\r\nhello\r\n00x\r\n\r\n", "005\r\nhello\r\n000\r\n\r\n", "000000000000000000005\r\nhello\r\n0\r\n\r\n", "A\r\nhellohello\r\n0\r\n\r\n",
		"5;a\r\nhello\r\n0\r\n\r\n", "5;a=b;c=\"d;e\"\r\nhello\r\n0;x=y\r\n\r\n", "5 ;a\r\nhello\r\n0\r\n\r\n", "5; a = b\r\nhello\r\n0\r\n\r\n", "5;a\nb\r\nhello\r\n0\r\n\r\n", "5;\nhello\r\n0\r\n\r\n",
		"5;a\rb\r\nhello\r\n0\r\n\r\n", "5;\x00\r\nhello\r\n0\r\n\r\n", "5;a=\"\r\nhello\r\n0\r\n\r\n", "5;;\r\nhello\r\n0\r\n\r\n", "5;\r\nhello\r\n0\r\n\r\n", "5\r\nhello\r\n0;\n\r\n", "5,a\r\nhello\r\n0\r\n\r\n",
		"5;" + strings.Repeat("e", 3000) + "\r\nhello\r\n0\r\n\r\n",
		"5\r\nhello\r\n0\r\nX: y\r\n\r\n", "5\r\nhello\r\n0\r\nContent-Length: 99\r\nHost: evil\r\n\r\n", "5\r\nhello\r\n0\r\nTransfer-Encoding: chunked\r\n\r\n", "5\r\nhello\r\n0\r\nX : y\r\n\r\n",
		"5\r\nhello\r\n0\r\n X: y\r\n\r\n", "5\r\nhello\r\n0\r\nX: y\n\n", "5\r\nhello\r\n0\r\nX: a\rb\r\n\r\n", "5\r\nhello\r\n0\r\nX: a\x00b\r\n\r\n", "5\r\nhello\r\n0\r\nX\r\n\r\n", "5\r\nhello\r\n0\r\n: y\r\n\r\n",
		"5\r\nhello\r\n0\r\nGET /SMUG HTTP/1.1\r\nHost: h\r\n\r\n", "5\r\nhello\r\n0\r\n", "5\r\nhel", "0\r\n\r\n", "0\r\n\r\n\r\n",
	} {
		post("Transfer-Encoding: chunked\r\n", chunks)
		post("Transfer-Encoding: chunked\r\n", chunks+smuggled)
	}
	for _, line := range []string{"X: a\rb", "X: a\x00b", "X: a\x0bb", "X: a\x7fb", "X: a\x1bb", "X: a\r\n b", "X: a\r\n\tb", "X : a", "X\t: a", "X", "X a", ": a", "", "X: \xff", "X\xff: a", "X\x00: a", "X\x7f: a", "(X): a", "X@Y: a",
		"X/Y: a", "\"X\": a", "X:", "X:\t", "X: a:b", "X_Y: a", "X.Y: a", "X: " + strings.Repeat("a", 3000), "X: a\n", "X: a\r\r\n", "\r", "Connection: close, Host", "Connection: Content-Length, Transfer-Encoding",
		"Connection: X-Forwarded-For", "Connection: upgrade\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__", "Upgrade: websocket", "Expect: 100-continue", "Expect: x", "Max-Forwards: 0", "Proxy-Connection: keep-alive", "Keep-Alive: x",
		"X-Forwarded-For: 6.6.6.6", "TE: trailers", "Trailer: X", "Content-Encoding: gzip", "X-HTTP-Method-Override: DELETE", "Cookie: a=b\r\nCookie: c=d"} {
		add("GET /first HTTP/1.1\r\nHost: h\r\n%s\r\n\r\n%s", line, smuggled)
		add("GET /first HTTP/1.1\r\n%s\r\nHost: h\r\n\r\n", line)
		post(line+"\r\nContent-Length: 5\r\n", "hello")
	}
	for _, line := range []string{"GET /first HTTP/1.1", "GET  /first HTTP/1.1", "GET /first  HTTP/1.1", "GET\t/first\tHTTP/1.1", "GET /first HTTP/1.1 ", " GET /first HTTP/1.1", "GET /first HTTP/1.1\r", "GET /first x HTTP/1.1",
		"GET /first HTTP/9.9", "GET /first HTTP/1.2", "GET /first HTTP/1.10", "GET /first HTTP/01.1", "GET /first HTTP/1", "GET /first http/1.1", "GET /first HTTP/2.0", "GET /first HTTP/0.9", "GET /first", "GET", "GET * HTTP/1.1", "OPTIONS * HTTP/1.1",
		"GET first HTTP/1.1", "GET ?first HTTP/1.1", "GET /fir\x00st HTTP/1.1", "GET /fir\rst HTTP/1.1", "GET /fir\x0bst HTTP/1.1", "GET /fir\x7fst HTTP/1.1", "GET /fir\xffst HTTP/1.1", "get /fir\xffst HTTP/1.1", "GET /first#x HTTP/1.1", "GET /first?a b HTTP/1.1",
		"GET /a/../first HTTP/1.1", "GET /%2e%2e/first HTTP/1.1", "GET //first HTTP/1.1", "GET /fir%00st HTTP/1.1", "GET /fir%zzst HTTP/1.1", "GET /first\\x HTTP/1.1", "GET http://h/first HTTP/1.1", "GET http://other/first HTTP/1.1",
		"GET HTTP://h/first HTTP/1.1", "GET https://h/first HTTP/1.1", "GET ftp://h/first HTTP/1.1", "GET http://u:p@h/first HTTP/1.1", "GET http:///first HTTP/1.1", "GET http://h HTTP/1.1", "GET http://h?x HTTP/1.1", "GET http://h:99999/first HTTP/1.1",
		"GET h:80 HTTP/1.1", "CONNECT h:80 HTTP/1.1", "CONNECT /first HTTP/1.1", "G\x00T /first HTTP/1.1", "G(T /first HTTP/1.1", "G@T /first HTTP/1.1", "gEt /first HTTP/1.1", "\x16\x03\x01", "PRI * HTTP/2.0", "GET /first HTTP/1.1\x00", "GET /first HTTP /1.1", "GET /first HTTP/1 .1", "GET /first HTTP/1.1x"} {
		add("%s\r\nHost: h\r\n\r\n", line)
		add("%s\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello%s", line, smuggled)
		add("%s\nHost: h\n\n%s", line, smuggled)
	}
	for _, host := range []string{"", "Host: \r\n", "Host:\r\n", "Host: h\r\nHost: h\r\n", "Host: h\r\nHost: evil\r\n", "Host: h\r\nhost: h\r\n", "Host: a b\r\n", "Host: a/b\r\n", "Host: x@h\r\n", "Host: h\x00\r\n", "Host: h:80\r\n", "Host: h:x\r\n", "Host: h:\r\n",
		"Host: h:99999\r\n", "Host: [::1]\r\n", "Host: [::1\r\n", "Host: h, evil\r\n", "Host: h#x\r\n", "Host: h?x\r\n", "Host: h\\x\r\n", "Host: \xc3\xa9\r\n", "Host : h\r\n", "Host:\th\t\r\n", " Host: h\r\n", "Host: h\r\n evil\r\n", "Host: %68\r\n", "Host: h..\r\n", "Host: <h>\r\n", "X: y\rHost: h\r\n", "HOST: h\r\n"} {
		add("GET /first HTTP/1.1\r\n%s\r\n", host)
		add("GET /first HTTP/1.0\r\n%s\r\n%s", host, smuggled)
		add("GET http://other/first HTTP/1.1\r\n%s\r\n%s", host, smuggled)
	}
	for _, before := range []string{"\r\n", "\n", "\r\n\r\n", "\r", "\r\r\n", " \r\n", "\x00", "\xef\xbb\xbf", "\r\n\r\n\r\n\r\n\r\n\r\n"} {
		all = append(all, before+"GET /first HTTP/1.1\r\nHost: h\r\n\r\n", "POST /first HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello"+before+smuggled)
	}
	for _, ends := range []string{"\n", "\r", "\r\r\n", "\n\r\n", "\n\r"} {
		all = append(all, strings.ReplaceAll("GET /first HTTP/1.1\r\nHost: h\r\nX: y\r\n\r\n", "\r\n", ends), strings.ReplaceAll("POST /first HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\n", "\r\n", ends)+"hello"+smuggled)
	}
	return all
}

// oddities are what mutations put into requests.
var oddities = []string{"\r", "\n", "\r\n", "\x00", " ", "\t", "\x0b", "\x7f", "\xff", ":", ",", ";", "0", "5", "0\r\n\r\n", "\r\n\r\n", smuggled, "Host: evil\r\n", "Content-Length: 5\r\n", "Content-Length: 0\r\n", "Transfer-Encoding: chunked\r\n",
	"Transfer-Encoding: identity\r\n", "Connection: close\r\n", "Expect: 100-continue\r\n", "X: y\r\n z\r\n", "HTTP/1.1", "HTTP/1.0", "\"", "/", "../", "chunked", "+", "-", "0x"}

// mutated are n mutations of the requests, the same in every run.
func mutated(from []string, n int) (all []string) {
	r := rand.New(rand.NewPCG(20, 26))
	at := func(s string) int { return r.IntN(len(s) + 1) }
	for range n {
		s := from[r.IntN(len(from))]
		for range 1 + r.IntN(3) {
			i := at(s)
			switch r.IntN(8) {
			case 0, 1, 2: // something more
				s = s[:i] + oddities[r.IntN(len(oddities))] + s[i:]
			case 3: // a line again, elsewhere
				lines := strings.SplitAfter(s, "\n")
				line := lines[r.IntN(len(lines))]
				k := r.IntN(len(lines) + 1)
				s = strings.Join(lines[:k], "") + line + strings.Join(lines[k:], "")
			case 4: // less
				j := min(len(s), i+1+r.IntN(3))
				s = s[:i] + s[j:]
			case 5: // another byte
				if i < len(s) {
					s = s[:i] + string([]byte{byte(r.IntN(256))}) + s[i+1:]
				}
			case 6: // the beginning of one, the end of another
				o := from[r.IntN(len(from))]
				s = s[:i] + o[at(o):]
			case 7: // the case of a letter
				if i < len(s) && (s[i]|0x20 >= 'a' && s[i]|0x20 <= 'z') {
					s = s[:i] + string([]byte{s[i] ^ 0x20}) + s[i+1:]
				}
			}
		}
		all = append(all, s+" "[min(1, len(s)):]) // an empty one would be none
	}
	return all
}
