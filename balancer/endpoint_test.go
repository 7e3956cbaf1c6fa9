package balancer

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestDoneCountsEveryOutcome(t *testing.T) {
	p := testPool("round_robin", 1)
	var failed uint64
	for i, o := range Outcomes() {
		for range i + 1 {
			e := p.Pick(nil)
			if e.Inflight() != 1 {
				t.Fatalf("%d in flight after a pick, want 1", e.Inflight())
			}
			e.Done(o, time.Duration(i+1)*time.Millisecond)
			if o.Failed() {
				failed++
			}
		}
	}
	e := p.Endpoints()[0]
	for i, o := range Outcomes() {
		if got := e.OutcomeCount(o); got != uint64(i+1) {
			t.Errorf("OutcomeCount(%v) = %d, want %d", o, got, i+1)
		}
	}
	if e.Requests() != 28 || e.Errors() != failed || e.Inflight() != 0 {
		t.Errorf("requests %d, errors %d, in flight %d; want 28, %d, 0", e.Requests(), e.Errors(), e.Inflight(), failed)
	}
	if e.Latency().Count() != 28 || e.Latency().Sum() != (1+4+9+16+25+36+49)*time.Millisecond {
		t.Errorf("latency holds %d records of %v together", e.Latency().Count(), e.Latency().Sum())
	}
}

func TestOutcomeLabels(t *testing.T) {
	var labels []string
	var blamed []string
	for _, o := range Outcomes() {
		labels = append(labels, o.String())
		if o.Failed() {
			blamed = append(blamed, o.String())
		}
	}
	if len(labels) != outcomes {
		t.Errorf("Outcomes has %d, there are %d", len(labels), outcomes)
	}
	if diff := cmp.Diff([]string{"success", "status", "connect", "reset", "timeout", "protocol", "canceled"}, labels); diff != "" {
		t.Errorf("labels (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"status", "connect", "reset", "timeout", "protocol"}, blamed); diff != "" {
		t.Errorf("outcomes that count against the endpoint (-want +got):\n%s", diff)
	}
}

func TestAddressesThatAreNoNames(t *testing.T) {
	for address, want := range map[string]string{
		"127.0.0.1:8001":          "127.0.0.1:8001",
		"[::1]:8001":              "[::1]:8001",
		"[::ffff:10.1.2.3]:80":    "10.1.2.3:80",
		"[fe80::1%eth0]:8001":     "[fe80::1%eth0]:8001",
		"models.example.com:8001": "",
	} {
		e := newEndpoint("blue", address, 1, new(line))
		got := ""
		if addrs := e.Addrs(); len(addrs) == 1 {
			got = addrs[0].String()
		}
		if got != want || e.Resolved() != (want != "") || e.Usable() != (want != "") {
			t.Errorf("%s: address %q, resolved %v, usable %v; want address %q", address, got, e.Resolved(), e.Usable(), want)
		}
	}
}

func TestABadAddressIsNeverUsableAndSaysWhy(t *testing.T) {
	for address, want := range map[string]string{
		"127.0.0.1":       `address "127.0.0.1" is not HOST:PORT`,
		":8001":           `address ":8001" is not HOST:PORT`,
		"127.0.0.1:http":  `address "127.0.0.1:http": the port is not a number from 1 to 65535`,
		"127.0.0.1:0":     `address "127.0.0.1:0": the port is not a number from 1 to 65535`,
		"127.0.0.1:70000": `address "127.0.0.1:70000": the port is not a number from 1 to 65535`,
	} {
		e := newEndpoint("blue", address, 1, new(line))
		if e.Usable() || e.ResolveError() != want {
			t.Errorf("%s: usable %v, error %q; want %q", address, e.Usable(), e.ResolveError(), want)
		}
	}
}
