//go:build !race

package config

import (
	"net/netip"
	"os"
	"reflect"
	"regexp"
	"testing"
	"time"
)

// TestDiffMissesNothing changes each value of a configuration that has them all, one at a time: a value
// that Diff does not know would never come into force by a reload.
func TestDiffMissesNothing(t *testing.T) {
	text, err := os.ReadFile("reference.yaml")
	if err != nil {
		t.Fatal(err)
	}
	base := parseDiff(t, string(text))
	changed := 0
	for n := 0; ; n++ {
		c := parseDiff(t, string(text))
		m := mutation{left: n}
		m.change(reflect.ValueOf(c).Elem(), "")
		if m.at == "" {
			break
		}
		if m.at == ".File" || unsaid.MatchString(m.at) {
			continue
		}
		changed++
		if Diff(base, c) == nil || Diff(c, base) == nil {
			t.Errorf("a change of %s is no difference", m.at)
		}
	}
	if changed < 100 {
		t.Errorf("only %d values were changed", changed)
	}
}

// unsaid matches what a concurrency of a pool and one of a route have in common as types alone.
var unsaid = regexp.MustCompile(`^\.Pools\[\]\.Concurrency\.(Key|Total)|^\.Routes\[\]\.Concurrency\.Adaptive`)

// mutation changes the value that left others come before.
type mutation struct {
	left int
	at   string // what was changed
}

func (m *mutation) change(v reflect.Value, at string) {
	switch v.Interface().(type) {
	case netip.Prefix:
		m.leaf(v, at, netip.MustParsePrefix("203.0.113.0/24"))
		return
	case *Regexp:
		m.leaf(v, at, &Regexp{regexp.MustCompile("another")})
		return
	case time.Duration:
		m.leaf(v, at, 77*time.Second)
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			m.change(v.Field(i), at+"."+v.Type().Field(i).Name)
		}
	case reflect.Pointer:
		if v.IsNil() {
			m.leaf(v, at, reflect.New(v.Type().Elem()).Interface())
			return
		}
		m.change(v.Elem(), at)
		m.leaf(v, at, reflect.Zero(v.Type()).Interface())
	case reflect.Slice:
		for i := range v.Len() {
			m.change(v.Index(i), at+"[]")
		}
		if v.Len() > 0 {
			m.leaf(v, at, v.Slice(1, v.Len()).Interface())
		}
	case reflect.String:
		m.leaf(v, at, "another")
	case reflect.Bool:
		m.leaf(v, at, !v.Bool())
	default:
		m.leaf(v, at, reflect.ValueOf(7).Convert(v.Type()).Interface())
	}
}

func (m *mutation) leaf(v reflect.Value, at string, to any) {
	if m.left--; m.left == -1 && m.at == "" {
		v.Set(reflect.ValueOf(to))
		m.at = at
	}
}
