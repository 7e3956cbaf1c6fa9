package main

import (
	"strings"
	"testing"
	"time"

	"weir/proxy"
)

func exampleMirror() proxy.MirrorReport {
	agreement, faster, later := 0.9994, -0.4, 3.5
	return proxy.MirrorReport{
		Route: "predict",
		Mirror: proxy.MirrorStatus{
			Pool: "shadow", Percent: 2.5, Active: 2, Sent: 123456, Skipped: 12, Compared: 5000, Agreed: 4997, Agreement: &agreement,
			P50: &faster, P95: &later, ErrorsPrimary: 1, ErrorsShadow: 20,
		},
		Disagreements: []proxy.MirrorSample{
			{
				Time: exampleNow().Add(-time.Minute), RequestID: "4711-a", Method: "POST", Path: "/predict", Endpoint: "127.0.0.1:8001",
				PrimaryStatus: 200, ShadowStatus: 200, Reason: "numbers differ", Field: "prediction", Primary: "7", Shadow: "9",
			},
			{
				Time: exampleNow().Add(-2 * time.Minute), RequestID: strings.Repeat("0123456789abcdef", 2), Method: "POST", Path: "/" + strings.Repeat("x", 100),
				PrimaryStatus: 200, ShadowStatus: 201, Reason: "the bodies differ", Primary: strings.Repeat("long ", 100), Shadow: "a\x1b[31m\nb",
			},
		},
	}
}

func TestMirrorText(t *testing.T) {
	var out strings.Builder
	writeMirror(&out, exampleMirror(), 80, exampleNow())
	wantText(t, "mirror.txt", out.String())
	out.Reset()
	writeMirror(&out, proxy.MirrorReport{Route: "predict", Mirror: proxy.MirrorStatus{Pool: "shadow", Percent: 100}}, 80, exampleNow())
	if want := "predict: 100% goes to shadow\n  0 sent, 0 under way, 0 skipped\n  errors: 0 of the shadow, 0 of the route\n"; out.String() != want {
		t.Errorf("%q, want %q", out.String(), want)
	}
}
