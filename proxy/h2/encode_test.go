package h2

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"golang.org/x/net/http2/hpack"
)

// TestEncoder has golang.org/x/net's decoder read many lists, while the size of the table changes. The fields are in
// memory that is used again.
func TestEncoder(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	names := []string{":status", ":path", ":method", "accept-encoding", "date", "x-request-id", "x-a", "x-b", "authorization", "vary"}
	values := []string{"", "200", "204", "/", "GET", "gzip, deflate", "a", "b", strings.Repeat("c", 126), strings.Repeat("d", 127), strings.Repeat("e", 600), strings.Repeat("f", 300)}
	for round := range 30 {
		e := newEncoder()
		allowed := uint32(defaultTableSize)
		d := hpack.NewDecoder(allowed, nil)
		for i := range 300 {
			if random.IntN(20) == 0 {
				for range 1 + random.IntN(3) {
					allowed = uint32(random.IntN(6000))
					e.resize(int(allowed))
				}
				d.SetAllowedMaxDynamicTableSize(allowed)
			}
			var memory []byte
			var want, given []Field
			for range random.IntN(12) {
				f := Field{Name: names[random.IntN(len(names))], Value: values[random.IntN(len(values))]}
				if random.IntN(3) == 0 {
					f.Value = fmt.Sprint(f.Value, random.IntN(1000))
				}
				f.Sensitive = f.Name == "authorization"
				want = append(want, f)
				memory = append(append(memory, f.Name...), f.Value...)
			}
			at := 0
			for _, f := range want {
				n, v := at+len(f.Name), at+len(f.Name)+len(f.Value)
				given = append(given, Field{Name: unsafeString(memory[at:n]), Value: unsafeString(memory[n:v]), Sensitive: f.Sensitive})
				at = v
			}
			b := e.list(nil, given)
			for i := range memory {
				memory[i] = '!'
			}
			got, err := d.DecodeFull(b)
			if err != nil {
				t.Fatalf("round %d, list %d: %v", round, i, err)
			}
			for j := range got { // what is in the static table comes without the mark
				got[j].Sensitive = want[j].Sensitive
			}
			if !slices.Equal(got, want) {
				t.Fatalf("round %d, list %d: %v, want %v", round, i, got, want)
			}
			size := 0
			for _, t := range e.entries {
				size += len(t.name) + len(t.value) + entryOverhead
			}
			if size != e.size || size > e.max {
				t.Fatalf("round %d, list %d: the table has %d bytes, counted %d, at most %d", round, i, size, e.size, e.max)
			}
		}
	}
}

// TestWhatIsIndexed: what repeats becomes one byte, what changes does not fill the table, and a secret never gets in.
func TestWhatIsIndexed(t *testing.T) {
	e := newEncoder()
	var last []byte
	for i := range 100 {
		last = e.list(nil, []Field{{Name: ":status", Value: "200"}, {Name: "server", Value: "weir"}, {Name: "x-request-id", Value: fmt.Sprint("id", i)},
			{Name: "authorization", Value: "secret", Sensitive: true}})
	}
	if len(e.entries) != 2 || e.entries[0].value != "weir" || e.entries[1].value != "id1" {
		t.Errorf("in the table: %v", e.entries)
	}
	// Two indexes, the ID behind an index of its name in two bytes, the secret with a name of two bytes.
	if want := 2 + 2 + 1 + len("id99") + 2 + 1 + len("secret"); len(last) != want {
		t.Errorf("%d bytes, want %d: %q", len(last), want, last)
	}
	if last[len(last)-len("secret")-3] != 0x1f {
		t.Errorf("the secret is not marked: %q", last)
	}
}

// TestStaticIndex compares with the table of golang.org/x/net.
func TestStaticIndex(t *testing.T) {
	for i := len(static) - 1; i > 0; i-- {
		if first := staticIndex(static[i].Name); first == 0 || first > i || static[first].Name != static[i].Name || static[first-1].Name == static[i].Name {
			t.Errorf("%s is at %d, said to be at %d", static[i].Name, i, first)
		}
	}
	if i := staticIndex("x-request-id"); i != 0 {
		t.Errorf("x-request-id is said to be at %d", i)
	}
}
