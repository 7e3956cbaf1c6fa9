package main

import (
	"fmt"
	"math"
	"net/http"
	"strings"
	"sync"
	"testing"

	"weir/proxy/enginetest"
)

// TestSharesFollowWeights sends requests through the whole program and holds the observed shares against
// the weights by Bernstein's inequality: by chance it fails less than once in a million runs, however rare a variant is.
func TestSharesFollowWeights(t *testing.T) {
	unlikely := math.Log(2 * 8 / 1e-6) // of 8 shares, to both sides
	for _, weights := range []map[string]float64{
		{"blue": 90, "green": 10},
		{"blue": 99.5, "green": 0.5},
		{"blue": 60, "green": 30, "gold": 10},
	} {
		name := strings.Trim(fmt.Sprint(weights), "map[]")
		t.Run(name, func(t *testing.T) {
			w := serve(t, splitConfig(t, weights))
			const clients = 4
			each := enginetest.Scaled(2500, 500)
			var mu sync.Mutex
			observed := map[string]int{}
			var wg sync.WaitGroup
			for range clients {
				wg.Go(func() {
					client := &http.Client{Transport: &http.Transport{}}
					defer client.CloseIdleConnections()
					mine := map[string]int{}
					for range each {
						variant, err := fetch(client, "http://"+w.addr+"/predict")
						if err != nil {
							t.Error(err)
							return
						}
						mine[variant]++
					}
					mu.Lock()
					defer mu.Unlock()
					for variant, n := range mine {
						observed[variant] += n
					}
				})
			}
			wg.Wait()
			sum := 0.0
			for _, weight := range weights {
				sum += weight
			}
			for variant, weight := range weights {
				expected := float64(clients*each) * weight / sum
				variance := expected * (1 - weight/sum)
				most := unlikely/3 + math.Sqrt(unlikely*unlikely/9+2*unlikely*variance)
				if off := math.Abs(float64(observed[variant]) - expected); off > most {
					t.Errorf("%s: %d requests, want %.0f ± %.0f", variant, observed[variant], expected, most)
				}
			}
			for _, v := range w.state().Routes[0].Variants {
				if want := float64(observed[v.Pool]) / float64(clients*each); v.Share != want || v.Requests != uint64(observed[v.Pool]) {
					t.Errorf("%s: share %v of %d requests, want %v of %d", v.Pool, v.Share, v.Requests, want, observed[v.Pool])
				}
			}
		})
	}
}

func fetch(c *http.Client, url string) (variant string, err error) {
	resp, err := c.Get(url)
	if err != nil {
		return "", err
	}
	defer func() { _ = resp.Body.Close() }()
	var body [16]byte
	n, _ := resp.Body.Read(body[:])
	variant = resp.Header.Get("X-Weir-Variant")
	if resp.StatusCode != 200 || string(body[:n]) != variant {
		return "", fmt.Errorf("%s from variant %q with body %q", resp.Status, variant, body[:n])
	}
	return variant, nil
}

func splitConfig(t *testing.T, weights map[string]float64) string {
	var pools, split strings.Builder
	for name, weight := range weights {
		fmt.Fprintf(&pools, "  %s: {endpoints: [%q], probe: off}\n", name, endpoint(t, name).Addr())
		fmt.Fprintf(&split, "%s: %v, ", name, weight)
	}
	return fmt.Sprintf(`
engine: "${WEIR_TEST_ENGINE:-auto}"
listeners: [{address: "127.0.0.1:0"}]
admin: {address: "127.0.0.1:0"}
log: {access: {output: off}}
pools:
%sroutes:
  - {name: predict, split: {%s}}
`, pools.String(), split.String())
}
