package auth

import (
	"encoding/base64"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"
)

// line is that of a user, at the lowest cost.
func line(t testing.TB, name, password string, cost int) string {
	t.Helper()
	hash, err := bcrypt.GenerateFromPassword([]byte(password), cost)
	if err != nil {
		t.Fatal(err)
	}
	return name + ":" + string(hash) + "\n"
}

func TestUsers(t *testing.T) {
	bob := strings.Replace(line(t, "bob", "pass:word", bcrypt.MinCost), "$2a$", "$2y$", 1)
	u, err := ParseUsers([]byte("# people\n\n" + line(t, "alice", "secret", bcrypt.MinCost) + bob + strings.TrimSpace(line(t, "carol", "c", bcrypt.MinCost)) + ":a comment\r\n"))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, password string
		ok             bool
	}{
		{"alice", "secret", true}, {"bob", "pass:word", true}, {"carol", "c", true}, {"alice", "Secret", false}, {"alice", "", false},
		{"Alice", "secret", false}, {"", "", false}, {"mallory", "secret", false}, {"alice", "pass:word", false},
	} {
		name, password := []byte(c.name), []byte(c.password)
		if _, ok := u.Recall(name, password); ok {
			t.Errorf("%s:%s is recalled before it was verified", c.name, c.password)
		}
		who, ok := u.Verify(name, password)
		if ok != c.ok || ok && who != c.name {
			t.Errorf("%s:%s: %q %v", c.name, c.password, who, ok)
		}
		if _, ok := u.Recall(name, password); ok != c.ok {
			t.Errorf("%s:%s is recalled after it was verified: %v", c.name, c.password, ok)
		}
	}
	// A name and a password are not told by their letters alone.
	if _, ok := u.Recall([]byte("alic"), []byte("esecret")); ok {
		t.Error("the parts of a name and a password run together")
	}
}

// TestUsersTakeTheSameTime: who is no user is looked at for as long as who is one.
func TestUsersTakeTheSameTime(t *testing.T) {
	u, err := ParseUsers([]byte(line(t, "alice", "secret", 9)))
	if err != nil {
		t.Fatal(err)
	}
	took := func(name string) time.Duration {
		best := time.Hour
		for range 5 {
			from := time.Now()
			u.Verify([]byte(name), []byte("wrong"))
			best = min(best, time.Since(from))
		}
		return best
	}
	if known, stranger := took("alice"), took("mallory"); stranger < known/2 || known < stranger/2 {
		t.Errorf("a user %v, a stranger %v", known, stranger)
	}
}

func TestUsersRefuse(t *testing.T) {
	good := line(t, "alice", "secret", bcrypt.MinCost)
	for name, c := range map[string]struct{ text, want string }{
		"SHA-1":       {good + "bob:{SHA}5baa61e4c9b93f3f0682250b6cf8331b7ee68fd8", `line 2: the password of "bob" is not hashed with bcrypt`},
		"apr1":        {"bob:$apr1$abcdefgh$0123456789012345678901", "htpasswd -B"},
		"crypt":       {"bob:rqXexS6ZhobKA", "htpasswd -B"},
		"plain":       {"bob:hunter2", "htpasswd -B"},
		"2x":          {strings.Replace(good, "$2a$", "$2x$", 1), "htpasswd -B"},
		"cut off":     {good[:40], "htpasswd -B"},
		"cost 16":     {strings.Replace(good, "$04$", "$16$", 1), "cost"},
		"cost 3":      {strings.Replace(good, "$04$", "$03$", 1), "cost"},
		"twice":       {good + good, "second time"},
		"no name":     {good[len("alice"):], "NAME:HASH"},
		"no hash":     {"alice", "NAME:HASH"},
		"a bell":      {"\a" + good, "NAME:HASH"},
		"other bytes": {"\xff\xfe" + good, "NAME:HASH"},
	} {
		_, err := ParseUsers([]byte(c.text))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v; want %q", name, err, c.want)
		}
		if err != nil && (strings.Contains(err.Error(), "hunter2") || strings.Contains(err.Error(), "$0")) {
			t.Errorf("%s: the error tells a secret: %v", name, err)
		}
	}
	if u, err := ParseUsers(nil); err != nil {
		t.Errorf("nobody: %v", err)
	} else if _, ok := u.Verify([]byte("alice"), []byte("secret")); ok {
		t.Error("somebody is in an empty file")
	}
}

func TestBasic(t *testing.T) {
	for _, c := range []struct {
		text, name, password string
		ok                   bool
	}{
		{encoded("a:b"), "a", "b", true}, {encoded("a:b:c"), "a", "b:c", true}, {encoded("a:"), "a", "", true}, {encoded(":b"), "", "b", true},
		{encoded("ab"), "", "", false}, {"", "", "", false}, {"YTpi!", "", "", false}, {"YTpi YTpi", "", "", false},
		{encoded("a:" + strings.Repeat("b", MaxBasic)), "", "", false},
	} {
		name, password, ok := Basic([]byte(c.text))
		if ok != c.ok || ok && (string(name) != c.name || string(password) != c.password) {
			t.Errorf("%.30q: %q %q %v", c.text, name, password, ok)
		}
	}
}

func encoded(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }

func TestRecentIsBounded(t *testing.T) {
	c := newRecent[int](3)
	key := func(i int) digest { return digest{byte(i)} }
	for i := range 3 {
		c.Add(key(i), i)
	}
	c.Get(key(0))
	c.Add(key(3), 3) // 1 was asked for longest ago
	for i, want := range []bool{true, false, true, true} {
		if v, ok := c.Get(key(i)); ok != want || ok && v != i {
			t.Errorf("%d: %d %v, want %v", i, v, ok, want)
		}
	}
	c.Add(key(3), 33)
	if v, _ := c.Get(key(3)); v != 33 || c.Len() != 3 {
		t.Errorf("%d, %d kept: %v", v, c.Len(), c.Keys())
	}
	c.Remove(key(3))
	if _, ok := c.Get(key(3)); ok || c.Len() != 2 {
		t.Error("it was not removed")
	}
}

// TestQueue: few run at a time, few wait, and one client has a part of them only.
func TestQueue(t *testing.T) {
	const atOnce, most = 2, 8
	q := NewQueue(atOnce, most)
	gate, done := make(chan struct{}), make(chan struct{}, 100)
	var running, highest atomic.Int32
	run := func() {
		if n := running.Add(1); n > highest.Load() {
			highest.Store(n)
		}
		<-gate
		running.Add(-1)
		done <- struct{}{}
	}
	one := netip.MustParseAddr("2001:db8::1")
	neighbour := netip.MustParseAddr("2001:db8::2") // in its network
	if !q.Do(one, run) || !q.Do(neighbour, run) {
		t.Fatal("refused while there is room")
	}
	if q.Do(one, run) {
		t.Error("one client has more than a quarter")
	}
	taken := 2
	for i := range 100 {
		if q.Do(netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}), run) {
			taken++
		}
	}
	if taken != atOnce+most {
		t.Errorf("%d were taken, want %d", taken, atOnce+most)
	}
	close(gate)
	for range taken {
		<-done
	}
	if highest.Load() > atOnce {
		t.Errorf("%d ran at a time, want at most %d", highest.Load(), atOnce)
	}
	var last sync.WaitGroup
	last.Add(1)
	for deadline := time.Now().Add(5 * time.Second); !q.Do(one, last.Done); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("still full")
		}
	}
	last.Wait()
}

func TestKeys(t *testing.T) {
	k, err := ParseKeys([]byte("# keys\nacme:0123456789abcdef\nacme:next-one\n\nbeta:sha256:2BB80D537B1DA3E38BD30361AA855686BDE0EACD7162FEF6A25FE97BF527A25B\ncolon:a:b\n"))
	if err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]string{"0123456789abcdef": "acme", "next-one": "acme", "secret": "beta", "a:b": "colon", "": "", "acme": "", "0123456789abcde": "",
		"2BB80D537B1DA3E38BD30361AA855686BDE0EACD7162FEF6A25FE97BF527A25B": "", strings.Repeat("x", maxKey+1): ""} {
		if name, ok := k.Find([]byte(key)); name != want || ok != (want != "") {
			t.Errorf("%.40q: %q %v, want %q", key, name, ok, want)
		}
	}
	for _, text := range []string{"acme", "acme:", ":key", "a b:key", "acme:ke y", "acme:sha256:", "acme:sha256:abcd", "acme:sha256:" + strings.Repeat("zz", 32),
		"acme:sha256:" + strings.Repeat("ab", 33), "a:same\nb:same", "acme:" + strings.Repeat("x", maxKey+1), "acme:tré-secret"} {
		_, err := ParseKeys([]byte(text))
		if err == nil {
			t.Errorf("%.40q was accepted", text)
		} else if strings.Contains(err.Error(), "secret") || strings.Contains(err.Error(), "same") {
			t.Errorf("the error tells a key: %v", err)
		}
	}
}

func BenchmarkRecall(b *testing.B) {
	u, err := ParseUsers([]byte(line(b, "alice", "secret", bcrypt.MinCost)))
	if err != nil {
		b.Fatal(err)
	}
	name, password := []byte("alice"), []byte("secret")
	u.Verify(name, password)
	b.ReportAllocs()
	for b.Loop() {
		u.Recall(name, password)
	}
}

func BenchmarkVerify(b *testing.B) {
	for _, cost := range []int{10, 12} {
		u, err := ParseUsers([]byte(line(b, "alice", "secret", cost)))
		if err != nil {
			b.Fatal(err)
		}
		b.Run(fmt.Sprint(cost), func(b *testing.B) {
			for b.Loop() {
				u.Verify([]byte("alice"), []byte("secret"))
			}
		})
	}
}
