package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"weir/bench"
)

// runOptions are the flags of weir-bench run.
type runOptions struct {
	target, method, body string
	headers              []string
	images, labels       string
	model, tensors       string
	users                int

	rate        float64
	arrivals    string
	closed      bool
	duration    time.Duration
	connections int
	timeout     time.Duration
	slo         time.Duration
	seed        uint64

	admin, route string
	output       string
	maxErrors    string
	maxP99       time.Duration
}

func runCommand() *cobra.Command {
	var o runOptions
	cmd := &cobra.Command{
		Use:   "run --target URL",
		Short: "Send requests on a schedule and report what became of them, per variant",
		Long: `Send requests on a schedule and report what became of them.

The load is open loop: requests are due at moments that do not depend on the answers, and
latency counts from the moment a request was due. At most --connections requests are under
way at once; one that has to wait for a connection is late, one that waits for longer than
--timeout is dropped and counts as an error. Ctrl-C gives the report so far.

Exit status: 0, 1 when the target cannot be reached or a threshold (--max-error-rate,
--max-p99) is exceeded, 2 for wrong usage.`,
		Example: `  weir-bench run --target http://127.0.0.1:8080/predict --body request.json --rate 1000 --duration 30s
  weir-bench run --target http://127.0.0.1:8080 --users 1000 \
      --images backend/models/fashion-sample-images-idx3-ubyte.gz --max-error-rate 0.1%`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return run(cmd.Context(), o, cmd.OutOrStdout())
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.target, "target", "", "where to send requests: http://HOST[:PORT]/PATH (required)")
	f.StringVar(&o.method, "method", "", "method (default GET, or POST with a body)")
	f.StringVar(&o.body, "body", "", "file with the body of every request")
	f.StringArrayVar(&o.headers, "header", nil, `field of every request, "NAME: VALUE"; repeat for more`)
	f.StringVar(&o.images, "images", "", "file with labelled images (IDX, gzip when it ends in .gz): ask a model about one in every request, and count right answers")
	f.StringVar(&o.labels, "labels", "", "file with their labels (default: the name of the images with labels-idx1 for images-idx3)")
	f.StringVar(&o.model, "model", "fashion", "model that is asked about images when the target has no path")
	f.StringVar(&o.tensors, "tensors", "json", "how images are sent: json or binary")
	f.IntVar(&o.users, "users", 0, "send X-User-ID of one of so many users, and count users seen on more than one variant")
	f.Float64Var(&o.rate, "rate", 100, "requests a second")
	f.StringVar(&o.arrivals, "arrivals", bench.ArrivalsPoisson, "poisson (independent users) or constant (evenly spaced)")
	f.BoolVar(&o.closed, "closed", false, "closed loop: every connection sends as soon as it has its answer; no schedule, so a stalled target slows the load")
	f.DurationVar(&o.duration, "duration", 30*time.Second, "how long requests are due; 0 until interrupted")
	f.IntVar(&o.connections, "connections", bench.DefaultConnections, "requests under way at once")
	f.DurationVar(&o.timeout, "timeout", bench.DefaultTimeout, "give up a request so long after it was sent, or drop it when it waited so long for a connection")
	f.DurationVar(&o.slo, "slo", 0, "latency of a good answer, for the goodput (default: every answer is good)")
	f.Uint64Var(&o.seed, "seed", 1, "same seed, same schedule, users and images")
	f.StringVar(&o.admin, "admin", "", "weir's admin API: start the count of users anew when the weights change")
	f.StringVar(&o.route, "route", "predict", "route whose weights --admin watches")
	f.StringVarP(&o.output, "output", "o", "text", "text or json")
	f.StringVar(&o.maxErrors, "max-error-rate", "", "exit with 1 when more of the requests fail, such as 0.1% or 0.001")
	f.DurationVar(&o.maxP99, "max-p99", 0, "exit with 1 when the p99 latency is higher")
	_ = cmd.MarkFlagRequired("target") // fails only for a flag that does not exist
	return cmd
}

// run attacks as o says and writes the report.
func run(ctx context.Context, o runOptions, w io.Writer) error {
	thresholds, err := o.thresholds()
	if err != nil {
		return err
	}
	if o.output != "text" && o.output != "json" {
		return fmt.Errorf("output %q: must be text or json", o.output)
	}
	target, err := o.newTarget()
	if err != nil {
		return err
	}
	options := bench.Options{
		Address: target.Address(), Target: target, Duration: o.duration,
		Connections: o.connections, Timeout: o.timeout, SLO: o.slo,
	}
	if !o.closed {
		if options.Pacer, err = bench.NewPacer(o.arrivals, o.rate, o.seed); err != nil {
			return err
		}
	}
	attack, err := bench.NewAttack(options)
	if err != nil {
		return err
	}
	report, err := o.collect(ctx, attack)
	if err != nil {
		return failure{err}
	}
	if o.output == "json" {
		err = report.JSON(w)
	} else {
		err = report.Text(w)
	}
	if err != nil {
		return failure{err}
	}
	if broken := thresholds.Check(report); len(broken) > 0 {
		return failure{errors.New(strings.Join(broken, "; "))}
	}
	return nil
}

// addressed is a target that knows where it is.
type addressed interface {
	bench.Target
	Address() string
}

func (o *runOptions) newTarget() (addressed, error) {
	request := bench.Request{URL: o.target, Method: o.method, Users: o.users, Seed: o.seed}
	for _, h := range o.headers {
		field, err := bench.ParseField(h)
		if err != nil {
			return nil, err
		}
		request.Header = append(request.Header, field)
	}
	if o.images != "" {
		if o.body != "" || o.method != "" {
			return nil, errors.New("--images makes the body and posts it: leave --body and --method out")
		}
		return o.newInfer(request)
	}
	var body []byte
	if o.body != "" {
		var err error
		if body, err = os.ReadFile(o.body); err != nil {
			return nil, fmt.Errorf("body: %w", err)
		}
	}
	return bench.NewFixed(request, body)
}

func (o *runOptions) newInfer(request bench.Request) (addressed, error) {
	if o.tensors != "json" && o.tensors != "binary" {
		return nil, fmt.Errorf("tensors %q: must be json or binary", o.tensors)
	}
	labels := o.labels
	if labels == "" {
		var err error
		if labels, err = bench.LabelsFor(o.images); err != nil {
			return nil, err
		}
	}
	images, err := bench.ReadImages(o.images, labels)
	if err != nil {
		return nil, fmt.Errorf("images: %w", err)
	}
	return bench.NewInfer(request, o.model, images, o.tensors == "binary")
}

func (o *runOptions) thresholds() (bench.Thresholds, error) {
	t := bench.Thresholds{MaxErrorRatio: -1, MaxP99: float64(o.maxP99) / float64(time.Millisecond)}
	if o.maxErrors == "" {
		return t, nil
	}
	number, percent := strings.CutSuffix(o.maxErrors, "%")
	ratio, err := strconv.ParseFloat(number, 64)
	if percent {
		ratio /= 100
	}
	if err != nil || !(ratio >= 0 && ratio <= 1) {
		return t, fmt.Errorf("max-error-rate %q: must be a percentage such as 0.1%%, or a part such as 0.001", o.maxErrors)
	}
	t.MaxErrorRatio = ratio
	return t, nil
}

// collect runs the attack and adds its results up once a second, which bounds the memory that
// sightings of users take.
func (o *runOptions) collect(ctx context.Context, attack *bench.Attack) (*bench.Report, error) {
	finished := make(chan error, 1)
	go func() { finished <- attack.Run(ctx) }()
	users := o.newUserCount(attack)
	total := bench.NewTally(o.slo)
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	take := func() error {
		part := attack.Take()
		total.Merge(part)
		return users.add(part.Sightings)
	}
	for {
		select {
		case <-tick.C:
			if err := take(); err != nil {
				fmt.Fprintln(os.Stderr, "weir-bench:", err)
			}
		case err := <-finished:
			if err != nil {
				return nil, err
			}
			elapsed := time.Since(attack.Start())
			if err := take(); err != nil {
				fmt.Fprintln(os.Stderr, "weir-bench:", err)
			}
			return o.report(total, users, elapsed, ctx.Err() != nil), nil
		}
	}
}

func (o *runOptions) report(total *bench.Tally, users *userCount, elapsed time.Duration, interrupted bool) *bench.Report {
	if o.duration > 0 && !o.closed {
		// Rates are over the time in which requests were due, not the wait for the last answers.
		elapsed = min(elapsed, o.duration)
	}
	r := bench.Summarize(total, elapsed)
	r.Target, r.Arrivals, r.Rate = o.target, o.arrivals, o.rate
	if o.closed {
		r.Arrivals, r.Rate = "closed", 0
	}
	r.Seed, r.Connections, r.Interrupted = o.seed, o.connections, interrupted
	if o.users > 0 {
		r.Users = users.report(o.users)
	}
	return r
}

// userCount follows users through the whole run, or since the weights changed when there is
// an admin API to ask.
type userCount struct {
	stickiness *bench.Stickiness
	watcher    *bench.Watcher // nil without an admin API
}

func (o *runOptions) newUserCount(attack *bench.Attack) *userCount {
	if o.admin == "" {
		return &userCount{stickiness: bench.NewStickiness(o.users)}
	}
	clock := func() time.Duration { return time.Since(attack.Start()) }
	w := bench.NewWatcher(bench.NewAdmin(o.admin), o.route, o.users, clock)
	return &userCount{stickiness: w.Stickiness, watcher: w}
}

func (u *userCount) add(sightings []bench.Sighting) error {
	u.stickiness.Add(sightings)
	if u.watcher == nil {
		u.stickiness.Confirm(math.MaxInt64)
		return nil
	}
	// The attack's end must not end the last look.
	_, err := u.watcher.Poll(context.Background())
	return err
}

func (u *userCount) report(total int) *bench.Users {
	byVariant, moved := u.stickiness.Users()
	r := &bench.Users{Total: total, ByVariant: byVariant, Moved: moved}
	for _, n := range byVariant {
		r.Seen += n
	}
	return r
}
