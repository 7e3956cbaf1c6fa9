package main

import (
	"regexp"
	"strings"
	"testing"

	"weir/proxy"
)

func TestMirrorInStatus(t *testing.T) {
	agreement, faster, later := 0.9994, -0.4, 3.5
	v := exampleView()
	v.Routes[0].Mirror = &proxy.MirrorStatus{
		Pool: "shadow", Percent: 2.5, Active: 2, Sent: 123456, Skipped: 12, Compared: 5000, Agreed: 4997, Agreement: &agreement,
		P50: &faster, P95: &later, ErrorsPrimary: 1, ErrorsShadow: 20,
	}
	for _, colours := range []bool{false, true} {
		v.colours = colours
		var out strings.Builder
		v.write(&out)
		text := strings.Join(strings.Fields(regexp.MustCompile("\x1b\\[[0-9]*m").ReplaceAllString(out.String(), "")), " ")
		want := "mirror: 2.5% to shadow, 123456 sent, 12 skipped; 99.94% agree; 0.40ms faster (p95: 3.50ms slower); errors 20, the route's 1"
		if !strings.Contains(text, want) {
			t.Errorf("%s\nlacks %s", text, want)
		}
		if live := strings.Join(v.live(), " "); !strings.Contains(live, "mirror: 2.5% to shadow") {
			t.Error("the live status lacks it")
		}
	}
	v.Routes[0].Mirror = &proxy.MirrorStatus{Pool: "shadow", Percent: 100}
	var out strings.Builder
	v.write(&out)
	if want := "  mirror: 100% to shadow, 0 sent, 0 skipped\n"; !strings.Contains(out.String(), want) {
		t.Errorf("%s\nlacks %q", out.String(), want)
	}
}
