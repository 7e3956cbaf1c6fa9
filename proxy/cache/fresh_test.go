package cache

import (
	"strings"
	"testing"
	"time"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 400_000_000, time.UTC)

func date(d time.Duration) string { return noon.Add(d).Format("Mon, 02 Jan 2006 15:04:05 GMT") }

func lines(l ...string) []byte {
	if len(l) == 0 {
		return nil
	}
	return []byte(strings.Join(l, "\r\n") + "\r\n")
}

func TestJudge(t *testing.T) {
	const s, m = time.Second, time.Minute
	p := Policy{TTL: map[int]time.Duration{200: m, 206: m, 304: m, 404: 5 * s, 410: 0}, StaleIfError: 10 * m, StaleWhileRevalidate: 30 * s}
	for _, c := range []struct {
		name   string
		status int
		lines  []byte
		delay  time.Duration
		want   Life
		why    Refusal
	}{
		{"the route's", 200, lines("Content-Type: text/plain"), 0, Life{0, m, 10 * m, 30 * s}, Kept},
		{"the route's by status", 404, nil, 0, Life{0, 5 * s, 10 * m, 30 * s}, Kept},
		{"the route's from when it came", 200, lines("Age: 100"), 2 * s, Life{102 * s, m + 102*s, 10 * m, 30 * s}, Kept},
		{"no TTL", 302, lines("Cache-Control: max-age=60"), 0, Life{}, BadStatus},
		{"a part", 206, nil, 0, Life{}, BadStatus},
		{"not modified", 304, nil, 0, Life{}, BadStatus},
		{"max-age", 200, lines("Cache-Control: max-age=7"), 0, Life{0, 7 * s, 10 * m, 30 * s}, Kept},
		{"the first of two", 200, lines("Cache-Control: max-age=7, max-age=9", "cache-control: max-age=1"), 0, Life{0, 7 * s, 10 * m, 30 * s}, Kept},
		{"quoted, in another case", 200, lines(`CACHE-CONTROL:PUBLIC , Max-Age="7"`), 0, Life{0, 7 * s, 10 * m, 30 * s}, Kept},
		{"endless", 200, lines("Cache-Control: max-age=99999999999999999999"), 0, Life{0, (1 << 31) * s, 10 * m, 30 * s}, Kept},
		{"no number", 200, lines("Cache-Control: max-age=soon"), 0, Life{0, 0, 10 * m, 30 * s}, Kept},
		{"negative", 200, lines("Cache-Control: max-age=-5"), 0, Life{0, 0, 10 * m, 30 * s}, Kept},
		{"s-maxage before max-age", 200, lines("Cache-Control: max-age=7, s-maxage=9"), 0, Life{0, 9 * s, 0, 0}, Kept},
		{"max-age before Expires", 200, lines("Expires: "+date(m), "Cache-Control: max-age=7"), 0, Life{0, 7 * s, 10 * m, 30 * s}, Kept},
		{"Expires after Date", 200, lines("Date: "+date(-5*s), "Expires: "+date(10*s)), 0, Life{5 * s, 15 * s, 10 * m, 30 * s}, Kept},
		{"Expires alone", 200, lines("Expires: " + date(10*s)), 0, Life{0, 10 * s, 10 * m, 30 * s}, Kept},
		{"Expires in the old form", 200, lines("Expires: " + noon.Add(10*s).Format("Monday, 02-Jan-06 15:04:05 GMT")), 0, Life{0, 10 * s, 10 * m, 30 * s}, Kept},
		{"Expires of asctime", 200, lines("Expires: " + noon.Add(10*s).Format(time.ANSIC)), 0, Life{0, 10 * s, 10 * m, 30 * s}, Kept},
		{"Expires 0", 200, lines("Expires: 0"), 0, Life{0, 0, 10 * m, 30 * s}, Kept},
		{"Age and delay", 200, lines("Cache-Control: max-age=60", "Age: 10"), 3 * s, Life{13 * s, m, 10 * m, 30 * s}, Kept},
		{"Date before Age", 200, lines("Cache-Control: max-age=60", "Age: 10", "Date: "+date(-20*s)), 3 * s, Life{20 * s, m, 10 * m, 30 * s}, Kept},
		{"Date of a clock that is fast", 200, lines("Cache-Control: max-age=60", "Date: "+date(m)), 0, Life{0, m, 10 * m, 30 * s}, Kept},
		{"no-store", 200, lines("Cache-Control: max-age=60, no-store"), 0, Life{}, Forbidden},
		{"private", 200, lines("Cache-Control: private"), 0, Life{}, Forbidden},
		{"private for a field", 200, lines(`Cache-Control: private="Set-Cookie, X", max-age=60`), 0, Life{}, Forbidden},
		{"a name in quotes", 200, lines(`Cache-Control: x="no-store, private", max-age=60`), 0, Life{0, m, 10 * m, 30 * s}, Kept},
		{"an escaped quote", 200, lines(`Cache-Control: x="\", no-store", max-age=60`), 0, Life{0, m, 10 * m, 30 * s}, Kept},
		{"no-cache", 200, lines("Cache-Control: no-cache, max-age=60"), 0, Life{}, Outdated},
		{"must-revalidate", 200, lines("Cache-Control: must-revalidate"), 0, Life{0, m, 0, 0}, Kept},
		{"proxy-revalidate", 200, lines("Cache-Control: proxy-revalidate, max-age=0"), 0, Life{}, Outdated},
		{"its own stale", 200, lines("Cache-Control: max-age=1, stale-if-error=2, stale-while-revalidate=3"), 0, Life{0, s, 2 * s, 3 * s}, Kept},
		{"no stale", 200, lines("Cache-Control: max-age=0, stale-if-error=0, stale-while-revalidate=0"), 0, Life{}, Outdated},
		{"long past", 200, lines("Cache-Control: max-age=60", "Age: 700"), 0, Life{}, Outdated},
		{"TTL 0", 410, nil, 0, Life{0, 0, 10 * m, 30 * s}, Kept},
		{"a cookie", 200, lines("set-cookie: a=b"), 0, Life{}, Personal},
		{"Vary *", 200, lines("Vary: Accept", "Vary: *"), 0, Life{}, VariesAlways},
		{"a stream", 200, lines("Content-Type: Text/Event-Stream;x=y"), 0, Life{}, Endless},
		{"trailers", 200, lines("Trailer: X"), 0, Life{}, Endless},
	} {
		if got, why := p.Judge(c.status, c.lines, noon, c.delay); got != c.want || why != c.why {
			t.Errorf("%s: %+v, %q; want %+v, %q", c.name, got, why, c.want, c.why)
		}
	}
}

// TestUse: when an answer that was 5 s old when it came may be used for what.
func TestUse(t *testing.T) {
	e := &Entry{Came: 1000 * int64(time.Second), Life: Life{Age: 5 * time.Second, Fresh: 10 * time.Second, IfError: 20 * time.Second, Refresh: 3 * time.Second}}
	for _, c := range []struct {
		after                   time.Duration
		fresh, refresh, ifError bool
	}{
		{0, true, true, true}, {4999 * time.Millisecond, true, true, true}, {5 * time.Second, false, true, true}, {8*time.Second - 1, false, true, true},
		{8 * time.Second, false, false, true}, {25*time.Second - 1, false, false, true}, {25 * time.Second, false, false, false},
	} {
		now := e.Came + int64(c.after)
		if e.Left(now) > 0 != c.fresh || e.WhileRevalidating(now) != c.refresh || e.IfError(now) != c.ifError || e.Age(now) != 5*time.Second+c.after {
			t.Errorf("after %v: %v left, %v, %v", c.after, e.Left(now), e.WhileRevalidating(now), e.IfError(now))
		}
	}
}

func TestAsk(t *testing.T) {
	for _, c := range []struct {
		lines                              []byte
		partial, fetch, noStore, condition bool
		takes                              [3]bool // an answer of 10 s with 10, 50 and 100 s left
	}{
		{lines: lines("Accept: */*", "X-Cache-Control: no-store"), takes: [3]bool{true, true, true}},
		{lines: lines("Range: bytes=0-"), partial: true, takes: [3]bool{true, true, true}},
		{lines: lines("if-range: x"), partial: true, takes: [3]bool{true, true, true}},
		{lines: lines("If-Match: x"), partial: true, takes: [3]bool{true, true, true}},
		{lines: lines("If-Unmodified-Since: x"), partial: true, takes: [3]bool{true, true, true}},
		{lines: lines("Cache-Control: no-cache"), fetch: true, takes: [3]bool{true, true, true}},
		{lines: lines("Cache-Control: max-age=0"), fetch: true},
		{lines: lines("Pragma: no-cache"), fetch: true, takes: [3]bool{true, true, true}},
		{lines: lines("Pragma: no-cache", "Cache-Control: max-age=10"), takes: [3]bool{true, true, true}},
		{lines: lines("Cache-Control: no-store"), noStore: true, takes: [3]bool{true, true, true}},
		{lines: lines("Cache-Control: max-age=9")},
		{lines: lines("Cache-Control: min-fresh=50"), takes: [3]bool{false, true, true}},
		{lines: lines("If-None-Match: x"), condition: true, takes: [3]bool{true, true, true}},
		{lines: lines("If-Modified-Since: x"), condition: true, takes: [3]bool{true, true, true}},
	} {
		a := ReadAsk(c.lines)
		takes := [3]bool{}
		for i, left := range []time.Duration{10, 50, 100} {
			takes[i] = a.Takes(10*time.Second, left*time.Second)
		}
		if a.Partial != c.partial || a.Fetch != c.fetch || a.NoStore != c.noStore || a.Conditional() != c.condition || takes != c.takes {
			t.Errorf("%q: %+v takes %v", c.lines, a, takes)
		}
	}
}

func TestHas(t *testing.T) {
	changed := lines("ETag:  W/\"a,b\" ", "Last-Modified: "+date(-time.Hour), "Age: 7", "X: y")
	for _, c := range []struct {
		ask, answer []byte
		status      int
		want        bool
	}{
		{lines(`If-None-Match: "a,b"`), changed, 200, true},
		{lines(`If-None-Match: "a", W/"a,b"`), changed, 200, true},
		{lines(`If-None-Match: "a"`, `If-None-Match: "a,b"`), changed, 200, true},
		{lines(`If-None-Match: "a", "b"`), changed, 200, false},
		{lines(`If-None-Match: *`), changed, 200, true},
		{lines(`If-None-Match: *`), changed, 404, false},
		{lines(`If-None-Match: "c"`, "If-Modified-Since: "+date(0)), changed, 200, false},
		{lines("If-Modified-Since: " + date(-time.Hour)), changed, 200, true},
		{lines("If-Modified-Since: " + date(-time.Hour-time.Second)), changed, 200, false},
		{lines("If-Modified-Since: yesterday"), changed, 200, false},
		{lines("If-Modified-Since: " + date(0)), lines("X: y"), 200, false},
		{lines(`If-None-Match: ""`), lines("X: y"), 200, false},
		{nil, changed, 200, false},
	} {
		a, e := ReadAsk(c.ask), NewEntry(c.status, c.answer, []byte("body"))
		if a.Has(e) != c.want {
			t.Errorf("%q of %d %q: %v", c.ask, c.status, c.answer, !c.want)
		}
		if strings.Contains(string(e.Head), "Age") || string(e.Body) != "body" || !strings.HasSuffix(string(e.Head), "X: y\r\n") {
			t.Errorf("kept %q, %q", e.Head, e.Body)
		}
	}
}
