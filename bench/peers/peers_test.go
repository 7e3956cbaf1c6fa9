package peers

import (
	"fmt"
	"testing"

	"weir/config"
)

// setups are the shapes of work that the templates tell apart.
func setups(dir string) map[string]*Setup {
	small := func() *Setup {
		return &Setup{
			Dir: dir, Listen: "127.0.0.1:18080", Admin: "127.0.0.1:19901", Files: 20_000, Clients: 1024, Routes: []string{"/predict"},
			Pools: []Pool{
				{Name: "blue", Version: "v1", Weight: 90, Endpoints: []string{"127.0.0.1:18001"}},
				{Name: "green", Version: "v2", Weight: 10, Endpoints: []string{"127.0.0.1:18002"}},
			},
		}
	}
	all := map[string]*Setup{
		"small": small(), "bodies": small(), "features": small(), "routes": small(), "endpoints": small(),
		"split": {
			Dir: dir, Listen: "127.0.0.1:18080", Admin: "127.0.0.1:19901", Files: 20_000, Clients: 1024, Routes: []string{"/predict"}, Affinity: true,
			Pools: []Pool{
				{Name: "variant-0", Version: "v1", Weight: 1, Endpoints: []string{"127.0.0.1:18001"}},
				{Name: "variant-1", Version: "v2", Weight: 1, Endpoints: []string{"127.0.0.1:18002"}},
				{Name: "variant-2", Version: "v3", Weight: 1, Endpoints: []string{"127.0.0.1:18003"}},
			},
		},
	}
	all["bodies"].LargeBodies = true
	all["features"].Features, all["features"].Affinity = true, true
	all["routes"].Routes = nil
	for i := range 200 {
		all["routes"].Routes = append(all["routes"].Routes, fmt.Sprintf("/models/model-%d", i))
	}
	all["endpoints"].Pools[0].Endpoints = []string{"127.0.1.1:18001", "127.0.1.2:18001", "127.0.1.3:18001"}
	return all
}

func TestWeirConfigIsValid(t *testing.T) {
	for name, s := range setups(t.TempDir()) {
		text, err := Render("weir.yaml", s)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := config.Parse("weir.yaml", text); err != nil {
			t.Errorf("%s: %v\n%s", name, err, text)
		}
	}
}

func TestSharesAddUp(t *testing.T) {
	s := &Setup{Pools: []Pool{{Name: "a", Weight: 1}, {Name: "b", Weight: 2}, {Name: "c", Weight: 5}}}
	got := s.Shares()
	if len(got) != 3 || got[0].Percent != "12.50%" || got[1].Percent != "25.00%" || got[2].Percent != "*" {
		t.Errorf("shares %v", got)
	}
}

func TestThereIsNoOtherPeer(t *testing.T) {
	if text, err := Render("apache.conf", &Setup{}); err == nil {
		t.Errorf("there is a configuration of Apache: %s", text)
	}
}
