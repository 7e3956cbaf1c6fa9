// Package demo shows what weir does: it starts two versions of a model that tells clothing apart,
// weir before them, and a steady load of labelled images from users, and shows live how the
// requests are split, how fast they are answered and how often the answer is right.
package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"weir/bench"
)

// Options of the demonstration.
type Options struct {
	Programs string  // folder of the programs weir and weir-backend
	Models   string  // folder of the models and the sample of images
	Rate     float64 // requests a second
	Users    int     // users they come from
	Seed     uint64
	// Duration after which it ends by itself, with a verdict; 0 runs until ctx is done.
	Duration time.Duration
	// Tour shifts the weights on the way; otherwise that is left to the user.
	Tour bool
	// Rollout, where not "", is RolloutGood or RolloutBad: a version is rolled out instead of a tour, and the demonstration
	// ends with that.
	Rollout string
	// Port and AdminPort are taken by weir when they are free, else it gets others.
	Port, AdminPort int

	Out io.Writer
	// Terminal refreshes one screen in place instead of writing lines; Width returns how many
	// columns it has. Color marks what matters, on a terminal.
	Terminal, Color bool
	Width           func() int
	Command         string // how weir is called from the user's shell, such as bin/weir

	tick time.Duration // default defaultTick; tests have less time
}

// ErrVerdict is wrapped by the error of a demonstration that ran to its end and saw something
// that should not be.
var ErrVerdict = errors.New("the demonstration found problems")

// Files of the folder of models.
const (
	blueModel    = "fashion-v1.onnx"
	greenModel   = "fashion-v2.onnx"
	sampleImages = "fashion-sample-images-idx3-ubyte.gz"
	sampleLabels = "fashion-sample-labels-idx1-ubyte.gz"
)

// routeName is the route of the made weir.yaml.
const routeName = "predict"

// Run starts everything, shows it until the duration is over or ctx is done, and stops
// everything again. Being interrupted is not an error.
func Run(ctx context.Context, o Options) error {
	if o.tick == 0 {
		o.tick = defaultTick
	}
	pools, images, err := o.load()
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "weir-demo-")
	if err != nil {
		return err
	}
	say := func(line string) { fmt.Fprintln(o.Out, line) }
	stack, err := startStack(ctx, &o, dir, pools, say)
	if err != nil {
		return cleanUp(dir, interrupted(ctx, err))
	}
	err = o.show(ctx, stack, images)
	stopErr := stack.stop()
	switch {
	case stopErr != nil:
		err = errors.Join(err, fmt.Errorf("stopping: %w", stopErr))
	default:
		say("everything is stopped")
	}
	return cleanUp(dir, err)
}

// interrupted turns the error of an interrupted start into none.
func interrupted(ctx context.Context, err error) error {
	if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		return nil
	}
	return err
}

// cleanUp removes the logs when all went well, and else says where they are.
func cleanUp(dir string, err error) error {
	if err != nil {
		return fmt.Errorf("%w\n(logs and weir.yaml are in %s)", err, dir)
	}
	return os.RemoveAll(dir)
}

// load reads all that the demonstration needs from files.
func (o *Options) load() ([]*pool, []bench.Image, error) {
	for _, program := range []string{"weir", "weir-backend"} {
		if _, err := os.Stat(filepath.Join(o.Programs, program)); err != nil {
			return nil, nil, fmt.Errorf("program %s is not beside weir-bench: make build makes it (%w)", program, err)
		}
	}
	blue, err := readModel(filepath.Join(o.Models, blueModel))
	if err != nil {
		return nil, nil, fmt.Errorf("models: %w (--models names their folder)", err)
	}
	green, err := readModel(filepath.Join(o.Models, greenModel))
	if err != nil {
		return nil, nil, fmt.Errorf("models: %w", err)
	}
	images, err := bench.ReadImages(filepath.Join(o.Models, sampleImages), filepath.Join(o.Models, sampleLabels))
	if err != nil {
		return nil, nil, fmt.Errorf("models: %w", err)
	}
	switch o.Rollout {
	case RolloutGood:
		return []*pool{{Name: "blue", Weight: 100, model: blue, processes: 2}, {Name: "green", model: green, processes: 2}}, images, nil
	case RolloutBad:
		bad, err := readModel(filepath.Join(o.Models, badModel))
		if err != nil {
			return nil, nil, fmt.Errorf("models: %w", err)
		}
		return []*pool{
			{Name: "blue", Weight: 100, model: blue, processes: 2}, {Name: "green", model: bad, processes: 2},
			{Name: "slow", model: green, processes: 1, slowness: slowness},
		}, images, nil
	}
	return []*pool{
		{Name: "blue", Weight: 90, model: blue, processes: 2},
		{Name: "green", Weight: 10, model: green, processes: 1},
	}, images, nil
}

// show sends the load and shows it.
func (o *Options) show(ctx context.Context, s *stack, images []bench.Image) error {
	target, err := bench.NewInfer(bench.Request{URL: "http://" + s.address, Users: o.Users, Seed: o.Seed}, "fashion", images, false)
	if err != nil {
		return err
	}
	pacer, err := bench.NewPacer(bench.ArrivalsPoisson, o.Rate, o.Seed)
	if err != nil {
		return err
	}
	attacked := bench.Target(target)
	var answers *labelled
	if o.Rollout != "" {
		answers = &labelled{Infer: target}
		attacked = answers
	}
	attack, err := bench.NewAttack(bench.Options{Address: target.Address(), Target: attacked, Pacer: pacer, Duration: o.Duration})
	if err != nil {
		return err
	}
	l := newLive(o, s, attack)
	if answers != nil {
		err = l.rollOut(ctx, answers)
	} else {
		err = l.run(ctx)
	}
	if err != nil {
		return err
	}
	summary, problems := l.verdict()
	fmt.Fprint(o.Out, summary)
	if len(problems) > 0 && (o.Duration > 0 || o.Rollout != "") {
		return fmt.Errorf("%w:\n  %s", ErrVerdict, strings.Join(problems, "\n  "))
	}
	return nil
}
