package config

import (
	"math"
	"testing"
	"time"
)

func TestParseDuration(t *testing.T) {
	f := func(s string, want time.Duration) {
		t.Helper()
		if got, err := ParseDuration(s); err != nil || got != want {
			t.Errorf("ParseDuration(%q) = %v, %v, want %v", s, got, err, want)
		}
	}
	f("10s", 10*time.Second)
	f("1m30s", 90*time.Second)
	f("500ms", 500*time.Millisecond)
	f("1.5h", 90*time.Minute)
	f("0s", 0)
	f("-1s", -time.Second)
}

func TestParseDurationFailure(t *testing.T) {
	for _, s := range []string{"", "0", "10", "-1", "s", "1 s", "1d", "ten", "9999999999h"} {
		if d, err := ParseDuration(s); err == nil {
			t.Errorf("ParseDuration(%q) = %v, want an error", s, d)
		}
	}
}

func TestFormatDuration(t *testing.T) {
	f := func(d time.Duration, want string) {
		t.Helper()
		got := FormatDuration(d)
		if got != want {
			t.Errorf("FormatDuration(%v) = %q, want %q", d, got, want)
		}
		if back, err := ParseDuration(got); err != nil || back != d {
			t.Errorf("ParseDuration(%q) = %v, %v, want %v", got, back, err, d)
		}
	}
	f(5*time.Minute, "5m")
	f(90*time.Second, "1m30s")
	f(10*time.Second, "10s")
	f(2*time.Hour, "2h")
	f(time.Hour+time.Second, "1h0m1s")
	f(20*time.Minute, "20m")
	f(1500*time.Microsecond, "1.5ms")
	f(10*time.Hour+20*time.Minute, "10h20m")
}

func TestParsePercent(t *testing.T) {
	f := func(s string, want float64, text string) {
		t.Helper()
		got, err := ParsePercent(s)
		if err != nil || got != want {
			t.Errorf("ParsePercent(%q) = %v, %v, want %v", s, got, err, want)
		}
		if written := formatNumber(got); written != text {
			t.Errorf("%v is written %q, want %q", got, written, text)
		}
		if back, err := ParsePercent(text); err != nil || back != got {
			t.Errorf("ParsePercent(%q) = %v, %v, want %v", text, back, err, got)
		}
	}
	f("50", 50, "50")
	f("50%", 50, "50")
	f("0", 0, "0")
	f("100%", 100, "100")
	f("0.5%", 0.5, "0.5")
	f(".5", 0.5, "0.5")
	f("1e-7", 1e-7, "1e-07")
	for _, s := range []string{"", "%", "-1", "-0", "100.1", "101%", "1e3%", "half", "50 %", "50%%", "NaN", "inf", "0x1", "05"} {
		if p, err := ParsePercent(s); err == nil {
			t.Errorf("ParsePercent(%q) = %v, want an error", s, p)
		}
	}
}

func TestParseSize(t *testing.T) {
	f := func(s string, want Size, text string) {
		t.Helper()
		got, err := ParseSize(s)
		if err != nil || got != want {
			t.Errorf("ParseSize(%q) = %d, %v, want %d", s, got, err, want)
		}
		if got.String() != text {
			t.Errorf("Size(%d).String() = %q, want %q", got, got.String(), text)
		}
	}
	f("0", 0, "0")
	f("1500", 1500, "1500")
	f("65536", 65536, "64KiB")
	f("12B", 12, "12")
	f("64KiB", 64<<10, "64KiB")
	f("4MiB", 4<<20, "4MiB")
	f("2GiB", 2<<30, "2GiB")
	f("1TiB", 1<<40, "1TiB")
	f("1KB", 1000, "1KB")
	f("1kB", 1000, "1KB")
	f("3MB", 3_000_000, "3MB")
	f("1GB", 1_000_000_000, "1GB")
	f("2TB", 2_000_000_000_000, "2TB")
	f("9223372036854775807", math.MaxInt64, "9223372036854775807")
}

func TestParseSizeFailure(t *testing.T) {
	for _, s := range []string{"", "KiB", "1K", "1kib", "1.5MiB", "-1", "+1", "1 KiB", "9223372036854775808", "8388608TiB", "0x10", "1_000"} {
		if size, err := ParseSize(s); err == nil {
			t.Errorf("ParseSize(%q) = %d, want an error", s, size)
		}
	}
}

func TestParseRate(t *testing.T) {
	f := func(s string, want Rate, text string) {
		t.Helper()
		got, err := ParseRate(s)
		if err != nil || got != want {
			t.Errorf("ParseRate(%q) = %v, %v, want %v", s, float64(got), err, float64(want))
		}
		if got.String() != text {
			t.Errorf("Rate(%v).String() = %q, want %q", float64(got), got, text)
		}
		if back, err := ParseRate(text); err != nil || back != got {
			t.Errorf("%q is read back as %v, %v", text, float64(back), err)
		}
	}
	f("200/s", 200, "200/s")
	f("12000/m", 200, "200/s")
	f("1/m", 1.0/60, "1/m")
	f("30/m", 0.5, "0.5/s")
	f("0.5/s", 0.5, "0.5/s")
	f(".25/s", 0.25, "0.25/s")
	f("1/h", 1.0/3600, "1/h")
	f("100/m", 100.0/60, "100/m")
	f("1000000000/s", 1e9, "1000000000/s")
	f("0.1/s", 0.1, "0.1/s")
}

func TestParseRateFailure(t *testing.T) {
	for _, s := range []string{"", "200", "/s", "200/", "200/d", "200 /s", "200/ s", "200/sec", "-1/s", "0/s", "0.0/m", "1e3/s", "+1/s", "0x10/s", "1_000/s", "NaN/s", "Inf/s", "1000000001/s", "99999999999999999999999/s"} {
		if rate, err := ParseRate(s); err == nil {
			t.Errorf("ParseRate(%q) = %v, want an error", s, float64(rate))
		}
	}
}

func TestCheckWeight(t *testing.T) {
	for _, w := range []float64{0, 0.01, 1, 99.5, MaxWeight} {
		if err := CheckWeight(w); err != nil {
			t.Errorf("CheckWeight(%v) = %v", w, err)
		}
	}
	for _, w := range []float64{-0.1, 2 * MaxWeight, math.NaN(), math.Inf(1)} {
		if CheckWeight(w) == nil {
			t.Errorf("CheckWeight(%v) accepts it", w)
		}
	}
}

func TestLoopbackAddress(t *testing.T) {
	for _, s := range []string{"127.0.0.1:80", "127.9.9.9:0", "[::1]:80", "localhost:80", "LOCALHOST:80", "[::ffff:127.0.0.1]:80"} {
		if !LoopbackAddress(s) {
			t.Errorf("%s is loopback", s)
		}
	}
	for _, s := range []string{":80", "0.0.0.0:80", "[::]:80", "10.0.0.1:80", "localhost.example.com:80", "127.0.0.1", ""} {
		if LoopbackAddress(s) {
			t.Errorf("%s is not loopback", s)
		}
	}
}

func TestSameSocket(t *testing.T) {
	f := func(a, b string, want bool) {
		t.Helper()
		if sameSocket(a, b) != want || sameSocket(b, a) != want {
			t.Errorf("sameSocket(%q, %q) is not %v both ways", a, b, want)
		}
	}
	f("127.0.0.1:80", "127.0.0.1:80", true)
	f(":80", "127.0.0.1:80", true)
	f("0.0.0.0:80", "[::1]:80", true) // Go opens an unspecified address for both families
	f("127.0.0.1:80", "127.0.0.2:80", false)
	f(":80", ":81", false)
	f(":0", ":0", false)
}

func TestNearest(t *testing.T) {
	names := []string{"name", "match", "split", "affinity", "timeouts", "limits", "endpoints"}
	f := func(word, want string) {
		t.Helper()
		if got := nearest(word, names); got != want {
			t.Errorf("nearest(%q) = %q, want %q", word, got, want)
		}
	}
	f("nmae", "name")
	f("Match", "match")
	f("endpoint", "endpoints")
	f("timeout", "timeouts")
	f("afinitty", "affinity")
	f("retry", "")
	f("x", "")
}

func TestPathsOfKeys(t *testing.T) {
	f := func(parent, name, want string) {
		t.Helper()
		got := child(parent, name)
		if got != want {
			t.Errorf("child(%q, %q) = %q, want %q", parent, name, got, want)
		}
		if back := enclosing(got); back != parent {
			t.Errorf("enclosing(%q) = %q, want %q", got, back, parent)
		}
	}
	f("", "pools", "pools")
	f("pools", "blue", "pools.blue")
	f("pools", "v1.2", `pools["v1.2"]`)
	f(`pools["v1.2"]`, "probe", `pools["v1.2"].probe`)
	f("routes[0]", "a b", `routes[0]["a b"]`)
	if got := enclosing("routes[10]"); got != "routes" {
		t.Errorf("enclosing(routes[10]) = %q", got)
	}
}

func TestStatusRangeContains(t *testing.T) {
	r := StatusRange{Low: 200, High: 204}
	for code, want := range map[int]bool{199: false, 200: true, 203: true, 204: true, 205: false} {
		if r.Contains(code) != want {
			t.Errorf("%v contains %d is %v", r, code, !want)
		}
	}
}
