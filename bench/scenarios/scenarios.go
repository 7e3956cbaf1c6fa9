// Package scenarios compares policies of balancing before pods that are not alike: weir's with each other, and with
// those of nginx and HAProxy. Everything is a process of its own on loopback. Arrivals are Poisson and wait for nobody
// (an open loop): a latency counts from the moment at which a request was due.
//
// Pods sleep instead of computing, so that two processors are enough and the proxies' own cost, which bench/compare
// measures, is small beside service times. The policies take turns within a round. All of a round meet the same
// arrivals, and pods that begin empty with the same draws. Failures eject nobody, in weir as in nginx: the policy
// alone decides.
package scenarios

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Scenario is a load and the pods before which policies are compared. The last pod is the one that differs.
type Scenario struct {
	Name   string
	Title  string
	Detail string
	Rate   float64 // requests a second
	Pods   []Model
}

// Scenarios returns all scenarios.
func Scenarios() []Scenario {
	const ms = time.Millisecond
	one := Model{Servers: 1, Service: 10 * ms, Shape: Exponential}
	with := func(change func(*Model)) Model { m := one; change(&m); return m }
	slot := Model{Servers: 4, Service: 40 * ms, Shape: Exponential, Queue: 64}
	scarce := slot
	scarce.Servers, scarce.Queue = 1, 16
	return []Scenario{
		{
			Name: "slow", Title: "one pod five times slower", Rate: 224, // 0.7 · (3 · 100 + 20)
			Detail: "four pods serve one request at a time, in 10 ms on average and one in 50 (exponential), at 70 % of their capacity",
			Pods:   []Model{one, one, one, with(func(m *Model) { m.Service = 50 * ms })},
		},
		{
			Name: "noisy", Title: "a noisy neighbour that comes and goes", Rate: 224,
			Detail: "four pods serve one request at a time, in 10 ms on average (exponential); one is five times slower every other 4 s",
			Pods:   []Model{one, one, one, with(func(m *Model) { m.Slower, m.Phase = 5, 4*time.Second })},
		},
		{
			Name: "batch", Title: "a pod that batches", Rate: 350,
			Detail: "three pods serve one request at a time, in 10 ms on average (exponential); one serves up to 8 together, in 20 ms and 2 ms for each but the first, and gathers them for 5 ms",
			Pods: []Model{one, one, one, with(func(m *Model) {
				m.Service, m.Shape, m.Batch, m.Gather, m.Each = 20*ms, Constant, 8, 5*ms, 0.1
			})},
		},
		{
			Name: "failing", Title: "a pod that fails fast", Rate: 200,
			Detail: "four pods serve one request at a time, in 10 ms on average (exponential); one answers 500 at once to every second request",
			Pods:   []Model{one, one, one, with(func(m *Model) { m.Fails = 0.5 })},
		},
		{
			Name: "gpu", Title: "slots of GPUs", Rate: 228, // 0.7 · (3 · 100 + 25)
			Detail: "three pods have slots for four requests at once and one for one, 40 ms each on average (exponential), at 70 % of their capacity; 64 and 16 may wait, others are refused with 503",
			Pods:   []Model{slot, slot, slot, scarce},
		},
	}
}

// Find returns the scenarios of those names, in the order of [Scenarios].
func Find(names []string) ([]Scenario, error) {
	all := Scenarios()
	known := make([]string, len(all))
	for i, s := range all {
		known[i] = s.Name
	}
	for _, name := range names {
		if !slices.Contains(known, name) {
			return nil, fmt.Errorf("scenario %q: must be one of %s", name, strings.Join(known, ", "))
		}
	}
	return slices.DeleteFunc(all, func(s Scenario) bool { return !slices.Contains(names, s.Name) }), nil
}

// Policy is a program and the way in which it chooses an endpoint.
type Policy struct {
	Name   string
	Title  string // in Markdown
	peer   string
	policy string // in the program's own words; empty for what bench/peers gives it
}

// Names of the policies that others are compared with, and of a pool of weir without the key policy.
const (
	Nginx          = "nginx"
	HAProxy        = "haproxy"
	HAProxyRandom2 = "haproxy-random2"
	Weir           = "weir"
)

// Policies returns all policies.
func Policies() []Policy {
	all := []Policy{
		{Nginx, "nginx `least_conn`", Nginx, ""},
		{HAProxy, "HAProxy `leastconn`", HAProxy, "leastconn"},
		{HAProxyRandom2, "HAProxy `random(2)`", HAProxy, "random(2)"},
		{Weir, "weir, no `policy` given", Weir, ""},
	}
	for _, name := range []string{"prequal", "peak_ewma", "least_request", "two_choices", "round_robin", "random"} {
		all = append(all, Policy{Weir + "-" + name, "weir `" + name + "`", Weir, name})
	}
	return all
}

// DefaultPolicies are the names of those that are compared unless told otherwise.
func DefaultPolicies() []string {
	return []string{Nginx, HAProxy, HAProxyRandom2, Weir, "weir-peak_ewma", "weir-least_request", "weir-round_robin"}
}

// FindPolicies returns the policies of those names, in the order of [Policies].
func FindPolicies(names []string) ([]Policy, error) {
	all := Policies()
	known := make([]string, len(all))
	for i, p := range all {
		known[i] = p.Name
	}
	for _, name := range names {
		if !slices.Contains(known, name) {
			return nil, fmt.Errorf("policy %q: must be one of %s", name, strings.Join(known, ", "))
		}
	}
	return slices.DeleteFunc(all, func(p Policy) bool { return !slices.Contains(names, p.Name) }), nil
}
