// Package rollouts shows what weir's rollouts do with versions that are as good as the old one, and with worse ones: real
// rollouts of a running weir, under real requests, to model servers whose errors and latencies are known. It measures how many
// good versions are given up, how many requests it takes to find a worse one, and how soon the old version has all
// requests again.
package rollouts

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"weir/bench"
	"weir/bench/process"
)

// Case is what the new version is, beside the old one.
type Case struct {
	Name   string  `json:"name"`
	Title  string  `json:"title"`
	Errors float64 `json:"errors"` // rate of the old version
	Ratio  float64 `json:"ratio"`  // errors of the new version by those of the old
	Slower float64 `json:"slower"` // its latency by that of the old
}

// Good reports whether the new version is no worse.
func (c *Case) Good() bool { return c.Ratio <= 1 && c.Slower <= 1 }

// Cases are all there are, the good ones first.
func Cases() []Case {
	return []Case{
		{"none", "no errors at either", 0, 1, 1},
		{"1%", "1 % errors at both", 0.01, 1, 1},
		{"5%", "5 % errors at both", 0.05, 1, 1},
		{"1.5x", "1.5 times the errors (2 %)", 0.02, 1.5, 1},
		{"2x", "2 times the errors (2 %)", 0.02, 2, 1},
		{"5x", "5 times the errors (2 %)", 0.02, 5, 1},
		{"20%-slower", "20 % slower", 0.02, 1, 1.2},
		{"50%-slower", "50 % slower", 0.02, 1, 1.5},
	}
}

// Steps of every rollout, in percent, each with ten looks.
var Steps = [...]float64{25, 50, 75}

// Alpha is the probability with which a good version may be given up.
const Alpha = 0.05

// Options say how much is done. All have to be set, Say may be nil.
type Options struct {
	Programs string        // the folder that weir is in
	Good     int           // rollouts of versions that are as good, over all cases
	Bad      int           // rollouts of each worse version
	AtOnce   int           // rollouts at one time, each of a route of its own
	Clients  int           // connections that requests come over
	Look     time.Duration // from one look of the analysis to the next; a step holds for ten of them
	Say      func(line string)
}

// weirConfig is the file of the weir whose rollouts they are.
func (o *Options) weirConfig(address, admin, stable, canary string) string {
	text := fmt.Sprintf("listeners: [{address: %q}]\nadmin: {address: %q}\nlog: {level: warn, access: {output: \"off\"}}\npools:\n"+
		"  stable: {version: \"1\", endpoints: [%q], probe: off, outlier: off}\n  canary: {version: \"2\", endpoints: [%q], probe: off, outlier: off}\nroutes:\n",
		address, admin, stable, canary)
	for i := range o.AtOnce {
		steps := ""
		for _, w := range append(Steps[:], 100) {
			hold := 10 * o.Look
			if w == 100 {
				hold = 0
			}
			steps += fmt.Sprintf("{weight: %g, hold: %s}, ", w, hold)
		}
		text += fmt.Sprintf("  - name: %s\n    match: {path_prefix: /%s/}\n    split: {stable: 100, canary: 0}\n    rollout:\n      steps: [%s]\n"+
			"      tripwire: off\n      analysis: {interval: %s, alpha: %g, min_requests: 100, max_wait: %s, inconclusive: hold, error_rate: {max_ratio: 1.5, tolerate: 2%%}, latency: {quantile: 0.95, max_ratio: 1.2}}\n",
			routeName(i), routeName(i), steps, o.Look, Alpha, 60*o.Look)
	}
	return text
}

func routeName(i int) string { return fmt.Sprintf("r%03d", i) }

// stage is a running weir between pods and clients.
type stage struct {
	o     *Options
	admin *bench.Admin
	pods  *pods
}

// Run makes the rollouts, several at a time, and returns what became of them.
func Run(ctx context.Context, o Options) (_ *Result, err error) {
	if o.Say == nil {
		o.Say = func(string) {}
	}
	dir, err := os.MkdirTemp("", "weir-rollouts-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	s := &stage{o: &o}
	if s.pods, err = startPods(o.AtOnce); err != nil {
		return nil, err
	}
	defer s.pods.stop()
	address, _, err := process.FreeAddress(0)
	if err != nil {
		return nil, err
	}
	admin, _, err := process.FreeAddress(0)
	if err != nil {
		return nil, err
	}
	file := filepath.Join(dir, "weir.yaml")
	if err := os.WriteFile(file, []byte(o.weirConfig(address, admin, s.pods.stable, s.pods.canary)), 0o600); err != nil {
		return nil, err
	}
	group := process.NewGroup(dir)
	defer func() { err = errors.Join(err, group.Stop(10*time.Second)) }()
	weir, err := group.Start(process.Spec{Name: "weir", Path: filepath.Join(o.Programs, "weir"), Args: []string{"serve", "-c", file}})
	if err != nil {
		return nil, err
	}
	s.admin = bench.NewAdmin("http://" + admin)
	if err := weir.Ready(ctx, 30*time.Second, process.Answers(s.admin.URL()+"/health/ready")); err != nil {
		return nil, err
	}
	stop := s.load(address)
	defer stop()

	result := &Result{
		Date: time.Now().UTC(), System: fmt.Sprintf("%s/%s, %d processors", runtime.GOOS, runtime.GOARCH, runtime.NumCPU()),
		Look: o.Look.Seconds(), Looks: 10,
	}
	if err := s.all(ctx, o.queue(), result); err != nil {
		return nil, err
	}
	result.summarize()
	return result, nil
}

// queue is all rollouts, those of all cases mixed, so that none has another hour of the machine than the others.
func (o *Options) queue() (queue []Case) {
	cases := Cases()
	left := make([]int, len(cases))
	for i := range cases {
		left[i] = o.Bad
		if cases[i].Good() {
			left[i] = (o.Good + 2) / 3
		}
	}
	for more := true; more; {
		more = false
		for i := range cases {
			if left[i] > 0 {
				left[i]--
				queue, more = append(queue, cases[i]), true
			}
		}
	}
	return queue
}
