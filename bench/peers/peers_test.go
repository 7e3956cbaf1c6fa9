package peers

import (
	"strings"
	"testing"

	"weir/config"
)

func TestConfigReplacesEveryAddress(t *testing.T) {
	used := map[string][]string{
		"nginx.conf":  {Blue, Green, Nginx, Dir},
		"haproxy.cfg": {Blue, Green, HAProxy},
		"weir.yaml":   {Blue, Green, Weir, WeirAdmin},
	}
	for name, addresses := range used {
		for _, address := range addresses {
			before, err := Config(name)
			if err != nil {
				t.Fatal(err)
			}
			after, err := Config(name, address, "replaced")
			if err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(string(before), address) || strings.Contains(string(after), address) {
				t.Errorf("%s: %s is not there, or not replaced", name, address)
			}
		}
	}
	if text, err := Config("caddy"); err == nil {
		t.Errorf("there is a configuration of Caddy: %s", text)
	}
}

func TestWeirConfigIsValid(t *testing.T) {
	text, err := Config("weir.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := config.Parse("weir.yaml", text); err != nil {
		t.Error(err)
	}
}
