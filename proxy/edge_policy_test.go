package proxy_test

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"weir/backend/backendtest"
	"weir/config"
)

// scripted are servers that behave so, and their addresses.
func scripted(t testing.TB, behaviours ...backendtest.Behaviour) (servers []*backendtest.Server, addresses []string) {
	for _, b := range behaviours {
		s := backendtest.NewServer(t, b)
		servers, addresses = append(servers, s), append(addresses, s.Addr())
	}
	return servers, addresses
}

// byPolicy is a proxy whose pool has this policy and no outlier detection.
func byPolicy(t *testing.T, policy string, endpoints []string, change func(*config.Pool)) *running {
	return start(t, setup{endpoints: endpoints, change: func(c *config.Config) {
		p := &c.Pools[0]
		p.Policy, p.Outlier = policy, nil
		if change != nil {
			change(p)
		}
	}})
}

// together has clients send requests at the same time, each one after the other, and returns how many each server got.
func (r *running) together(t *testing.T, servers []*backendtest.Server, clients, each int) (counts []int64) {
	t.Helper()
	var running sync.WaitGroup
	for range clients {
		c := r.dial(t)
		running.Go(func() {
			for range each {
				c.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n")
				if _, _, err := c.readResponse("GET"); err != nil {
					t.Errorf("no answer: %v", err)
					return
				}
			}
		})
	}
	running.Wait()
	for _, s := range servers {
		counts = append(counts, s.Counts().Requests)
	}
	return counts
}

// TestEdgeSlowEndpointsGetLess: one of four takes fifty times as long. Who counts requests keeps it as busy as the
// others; the policies that look at latency pass it over.
func TestEdgeSlowEndpointsGetLess(t *testing.T) {
	fast, slow := backendtest.Behaviour{Latency: 10 * time.Millisecond}, backendtest.Behaviour{Latency: 500 * time.Millisecond}
	for _, policy := range []string{"peak_ewma", "prequal"} {
		t.Run(policy, func(t *testing.T) {
			servers, addresses := scripted(t, fast, fast, fast, slow)
			r := byPolicy(t, policy, addresses, nil)
			if counts := r.together(t, servers, 8, 25); counts[3] > 25 || counts[3] == 0 {
				t.Errorf("requests by endpoint: %v, want some and at most 25 of 200 at the slow one", counts)
			}
		})
	}
}

// TestEdgeFailFastEndpointsAttractNothing: one of three answers 500 at once, the others take 20 ms. Where nothing ejects
// it, it would be idle most of the time and seem the fastest.
func TestEdgeFailFastEndpointsAttractNothing(t *testing.T) {
	well := backendtest.Behaviour{Latency: 20 * time.Millisecond}
	for _, policy := range []string{"peak_ewma", "prequal"} {
		t.Run(policy, func(t *testing.T) {
			servers, addresses := scripted(t, well, well, backendtest.Behaviour{Status: 500})
			r := byPolicy(t, policy, addresses, nil)
			if counts := r.together(t, servers, 6, 30); counts[2] > 30 || counts[2] == 0 {
				t.Errorf("requests by endpoint: %v, want some and at most 30 of 180 at the one that fails", counts)
			}
		})
	}
}

// TestEdgePoliciesHeedWeights: weight 3 against 1, all alike.
func TestEdgePoliciesHeedWeights(t *testing.T) {
	for _, policy := range config.Policies() {
		least := [2]int64{40, 200}
		switch policy {
		case "hash", "peak_ewma", "prequal": // by weight only where nothing else tells the two apart, as latency may
			least = [2]int64{1, 1}
		}
		t.Run(policy, func(t *testing.T) {
			t.Parallel()
			servers, addresses := scripted(t, backendtest.Behaviour{Latency: 5 * time.Millisecond}, backendtest.Behaviour{Latency: 5 * time.Millisecond})
			r := byPolicy(t, policy, addresses, func(p *config.Pool) {
				p.Endpoints[1].Weight = 3
				if policy == "hash" {
					p.Hash = &config.Hash{Key: config.Source{Kind: config.AffinityHeader, Name: "X-User-ID"}}
				}
			})
			counts := r.together(t, servers, 1, 400)
			if counts[0] < least[0] || counts[1] < least[1] || counts[0]+counts[1] != 400 {
				t.Errorf("requests by endpoint: %v, want about 100 and 300", counts)
			}
		})
	}
}

// TestEdgeHash keeps requests alike on one endpoint, wherever they say what they are like, and spreads the others.
func TestEdgeHash(t *testing.T) {
	const users = 40
	for key, ask := range map[config.Source]func(user int) string{
		{Kind: config.AffinityHeader, Name: "X-User-ID"}: func(u int) string { return fmt.Sprintf("GET / HTTP/1.1\r\nHost: h\r\nx-user-id: u%d\r\n\r\n", u) },
		{Kind: config.AffinityCookie, Name: "session"}: func(u int) string {
			return fmt.Sprintf("GET / HTTP/1.1\r\nHost: h\r\nCookie: a=b; session=u%d\r\n\r\n", u)
		},
		{Kind: config.AffinityQuery, Name: "user"}: func(u int) string { return fmt.Sprintf("GET /?a=1&user=u%d HTTP/1.1\r\nHost: h\r\n\r\n", u) },
		{Kind: config.AffinityJSON, Name: "a.user"}: func(u int) string {
			body := fmt.Sprintf(`{"a":{"user":"u%02d"}}`, u)
			return fmt.Sprintf("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
		},
	} {
		t.Run(key.Kind, func(t *testing.T) {
			servers, addresses := scripted(t, backendtest.Behaviour{}, backendtest.Behaviour{}, backendtest.Behaviour{})
			r := byPolicy(t, "hash", addresses, func(p *config.Pool) { p.Hash = &config.Hash{Key: key, MaxLoad: 125} })
			c := r.dial(t)
			counts := func() (n []int64) {
				for _, s := range servers {
					n = append(n, s.Counts().Requests)
				}
				return n
			}
			var homes []int
			for round := range 3 {
				for u := range users {
					before := counts()
					c.send(ask(u))
					if _, _, err := c.readResponse("GET"); err != nil {
						t.Fatal(err)
					}
					after := counts()
					home := slices.IndexFunc(servers, func(s *backendtest.Server) bool {
						i := slices.Index(servers, s)
						return after[i] != before[i]
					})
					if round == 0 {
						homes = append(homes, home)
					} else if homes[u] != home {
						t.Fatalf("user %d was at endpoint %d and is at %d", u, homes[u], home)
					}
				}
			}
			for i, n := range counts() {
				if n == 0 {
					t.Errorf("endpoint %d has none of %d users", i, users)
				}
			}
		})
	}
}

// TestEdgeHashWithoutAKeyAndClients: requests that do not say what they are like are spread; by client_ip those of one
// client are together; and a retry goes to another endpoint.
func TestEdgeHashWithoutAKey(t *testing.T) {
	servers, addresses := scripted(t, backendtest.Behaviour{}, backendtest.Behaviour{}, backendtest.Behaviour{})
	r := byPolicy(t, "hash", addresses, func(p *config.Pool) {
		p.Hash = &config.Hash{Key: config.Source{Kind: config.AffinityHeader, Name: "X-User-ID"}, MaxLoad: 125}
	})
	for i, n := range r.together(t, servers, 1, 60) {
		if n == 0 {
			t.Errorf("endpoint %d got none of 60 requests", i)
		}
	}
	servers, addresses = scripted(t, backendtest.Behaviour{}, backendtest.Behaviour{}, backendtest.Behaviour{})
	r = byPolicy(t, "hash", addresses, func(p *config.Pool) {
		p.Hash = &config.Hash{Key: config.Source{Kind: config.AffinityClientIP}, MaxLoad: 0}
	})
	counts := r.together(t, servers, 3, 10)
	if slices.Max(counts) != 30 {
		t.Errorf("requests by endpoint: %v, want all 30 at one, as they come from one address", counts)
	}
	home := slices.Index(counts, 30)
	servers[home].Stop()
	c := r.dial(t)
	for range 5 {
		if m := c.get("/"); m.start != "HTTP/1.1 200 OK" {
			t.Fatalf("%s, want a retry at the next endpoint", m.start)
		}
	}
	if n := servers[(home+1)%3].Counts().Requests + servers[(home+2)%3].Counts().Requests; n != 5 {
		t.Errorf("%d requests at the others, want 5", n)
	}
}

// TestEdgeReportsMoveTraffic: two endpoints that report utilizations of 0.2 and 0.8 with their answers. After the
// blackout the first one gets about four times as much, and status says why.
func TestEdgeReportsMoveTraffic(t *testing.T) {
	alongside(t)
	servers, addresses := scripted(t,
		backendtest.Behaviour{Load: map[string]float64{"application_utilization": 0.2}},
		backendtest.Behaviour{Load: map[string]float64{"application_utilization": 0.8}})
	r := byPolicy(t, "utilization", addresses, nil)
	c := r.dial(t)
	ask := func() {
		_ = c.SetDeadline(time.Now().Add(patience))
		c.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n")
		if m, _, err := c.readResponse("GET"); err != nil || m.get("endpoint-load-metrics") != "" {
			t.Fatalf("an answer of %+v, error %v; want one without a report", m, err)
		}
	}
	for end := time.Now().Add(patience + 30*time.Second); ; time.Sleep(5 * time.Millisecond) {
		ask()
		pool, _ := r.Pool("blue")
		if a, b := pool.Endpoints[0].EffectiveWeight, pool.Endpoints[1].EffectiveWeight; a/b > 3.8 && a/b < 4.2 {
			break
		} else if time.Now().After(end) {
			t.Fatalf("weights are %v and %v, want 4 to 1", a, b)
		}
	}
	first, second := servers[0].Counts().Requests, servers[1].Counts().Requests
	for range 200 {
		ask()
	}
	first, second = servers[0].Counts().Requests-first, servers[1].Counts().Requests-second
	if first < 150 || second < 30 {
		t.Errorf("requests by endpoint: %d and %d, want about 160 and 40", first, second)
	}
}
