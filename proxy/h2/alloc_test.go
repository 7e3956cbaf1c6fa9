//go:build !race

package h2

import "testing"

// TestAllocations: of a request and its answer only the two values that are new each time, as the decoder makes them.
func TestAllocations(t *testing.T) {
	u := newUnary()
	for range 100 {
		if err := u.exchange(); err != nil {
			t.Fatal(err)
		}
	}
	if n := testing.AllocsPerRun(1000, func() {
		if err := u.exchange(); err != nil {
			t.Fatal(err)
		}
	}); n > 2 {
		t.Errorf("%v allocations for a request and its answer, want 2", n)
	}
	if u.got != u.n*len(u.body) {
		t.Errorf("%d bytes came of %d exchanges", u.got, u.n)
	}
	u.same = true
	for range 3 {
		u.exchange()
	}
	if n := testing.AllocsPerRun(1000, func() { u.exchange() }); n != 0 {
		t.Errorf("%v allocations where nothing is new", n)
	}
}

// TestDataAllocations: bodies pass without an allocation, in both directions.
func TestDataAllocations(t *testing.T) {
	u := newUnary()
	s := u.client.Open()
	s.WriteHeaders(u.ask[:8], false)
	body := make([]byte, 50_000)
	send := func() {
		for rest := body; len(rest) > 0; {
			rest = rest[s.WriteData(rest, false):]
			if err := u.carry(); err != nil {
				t.Fatal(err)
			}
		}
	}
	for range 20 {
		send()
	}
	if n := testing.AllocsPerRun(500, send); n != 0 {
		t.Errorf("%v allocations for 50,000 bytes", n)
	}
}
