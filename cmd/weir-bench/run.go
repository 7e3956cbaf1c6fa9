package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"weir/bench"
)

// runOptions are the flags of weir-bench run.
type runOptions struct {
	target, method, body, template string
	headers                        []string
	images, labels                 string
	inputs                         []string
	model, tensors                 string
	users                          int
	protocol                       protocolOptions

	rate          float64
	arrivals      string
	even          bool
	rampTo        float64
	steps, burst  string
	trace         string
	closed        bool
	duration      time.Duration
	durationGiven bool
	warmup        time.Duration
	connections   int
	timeout       time.Duration
	slo           time.Duration
	seed          uint64

	saturate  bool
	quantile  float64
	probe     time.Duration
	maxRate   float64
	precision string

	admin, route, expect string
	output, html, hlog   string
	quiet                bool
	maxErrors            string
	maxP99               time.Duration
	minRate, minGoodput  float64
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

--arrivals says when requests are due: poisson and constant at --rate; bursts puts --burst
requests at once on top of poisson at --rate; ramp goes from --rate to --ramp-to in
--duration; steps holds the rates of --steps one after the other; trace replays a file of
offsets. Ramps and steps are Poisson at the rate of the moment, or evenly spaced with --even.

--saturate tries rates, from --rate on, and finds the highest at which --quantile of the
answers keep --slo and no more than --max-error-rate (default 0.1%) of the requests fail.

With --http2 each connection carries --streams requests at once. --grpc calls a method with the
message in --body; --tensors grpc asks a model by gRPC. Both speak HTTP/2.

Exit status: 0, 1 when the target cannot be reached, a threshold (--max-error-rate, --max-p99,
--min-rate, --min-goodput) is
broken, the split deviates from --expect or --saturate finds no rate, 2 for wrong usage.`,
		Example: `  weir-bench run --target http://127.0.0.1:8080/predict --body request.json --rate 1000 --duration 30s
  weir-bench run --target http://127.0.0.1:8080 --users 1000 --expect blue=90,green=10 \
      --images backend/models/fashion-sample-images-idx3-ubyte.gz --max-error-rate 0.1% -o html > report.html
  weir-bench run --target http://127.0.0.1:8080 --tensor image:FP32:1x784 --arrivals ramp --rate 10 --ramp-to 500
  weir-bench run --target http://127.0.0.1:8080/predict --template request.tmpl --saturate --slo 50ms
  weir-bench run --target https://127.0.0.1:8443/predict --ca-file ca.crt --http2 --connections 8 --streams 16
  weir-bench run --target http://127.0.0.1:8080 --tensor image:FP32:1x784 --tensors grpc
  weir-bench run --target http://127.0.0.1:8080 --grpc /grpc.health.v1.Health/Check --body empty.bin`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			o.durationGiven = cmd.Flags().Changed("duration")
			return run(cmd.Context(), o, cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	f := cmd.Flags()
	o.requestFlags(f)
	o.protocol.flags(f)
	o.scheduleFlags(f)
	o.reportFlags(f)
	_ = cmd.MarkFlagRequired("target") // fails only for a flag that does not exist
	return cmd
}

func (o *runOptions) requestFlags(f *pflag.FlagSet) {
	f.StringVar(&o.target, "target", "", "where to send requests: http://HOST[:PORT]/PATH, or https (required)")
	f.StringVar(&o.method, "method", "", "method (default GET, or POST with a body)")
	f.StringVar(&o.body, "body", "", "file with the body of every request")
	f.StringVar(&o.template, "template", "", "file with a body whose placeholders are filled in anew for every request: {{seq}}, {{user}}, {{uuid}}, {{int A B}}, {{float A B}}, {{floats N A B}}, {{pick WORD…}}")
	f.StringArrayVar(&o.inputs, "tensor", nil, "random tensor to ask a model about, NAME:DATATYPE:SHAPE such as image:FP32:1x784; repeat for more inputs")
	f.StringVar(&o.images, "images", "", "file with labelled images (IDX, gzip when it ends in .gz): ask a model about one in every request, and count right answers")
	f.StringVar(&o.labels, "labels", "", "file with their labels (default: the name of the images with labels-idx1 for images-idx3)")
	f.StringVar(&o.model, "model", "fashion", "model that is asked about images or tensors when the target has no path")
	f.StringVar(&o.tensors, "tensors", "json", "how images and tensors are sent: json or binary over REST, or grpc")
	f.StringArrayVar(&o.headers, "header", nil, `field of every request, "NAME: VALUE"; repeat for more`)
	f.IntVar(&o.users, "users", 0, "send X-User-ID of one of so many users, and count users seen on more than one variant")
}

func (o *runOptions) scheduleFlags(f *pflag.FlagSet) {
	f.Float64Var(&o.rate, "rate", 100, "requests a second: of poisson and constant, between bursts, at the start of a ramp or of --saturate")
	f.StringVar(&o.arrivals, "arrivals", bench.ArrivalsPoisson, "poisson (independent users), constant (evenly spaced), bursts, ramp, steps or trace")
	f.Float64Var(&o.rampTo, "ramp-to", 0, "rate at the end of a ramp")
	f.StringVar(&o.steps, "steps", "", "rates and how long each holds, such as 100:10s,200:10s")
	f.StringVar(&o.burst, "burst", "", "how many requests are due at once, and how often, such as 50/1s")
	f.StringVar(&o.trace, "trace", "", "file with arrivals, an offset in seconds at the start of each line (gzip when it ends in .gz)")
	f.BoolVar(&o.even, "even", false, "space the arrivals of a ramp and of steps evenly")
	f.BoolVar(&o.closed, "closed", false, "closed loop: every connection sends as soon as it has its answer; no schedule, so a stalled target slows the load")
	f.DurationVar(&o.duration, "duration", 30*time.Second, "how long requests are due; 0 until interrupted (default of steps and trace: until they end)")
	f.DurationVar(&o.warmup, "warmup", 0, "load before it, at the rate the schedule starts with, that is not counted")
	f.IntVar(&o.connections, "connections", bench.DefaultConnections, "connections, each with one request at a time, or --streams")
	f.DurationVar(&o.timeout, "timeout", bench.DefaultTimeout, "give up a request so long after it was sent, or drop it when it waited so long for a connection")
	f.Uint64Var(&o.seed, "seed", 1, "same seed, same schedule, users and bodies")
	f.BoolVar(&o.saturate, "saturate", false, "find the highest rate that keeps --slo")
	f.Float64Var(&o.quantile, "quantile", 99, "percentage of the answers that must keep --slo, of --saturate: 50, 90, 95, 99 or 99.9")
	f.DurationVar(&o.probe, "probe", 5*time.Second, "how long --saturate tries each rate")
	f.Float64Var(&o.maxRate, "max-rate", 100_000, "highest rate that --saturate tries")
	f.StringVar(&o.precision, "precision", "5%", "how near the rate that is not kept must come to the one that is, for --saturate to end")
}

func (o *runOptions) reportFlags(f *pflag.FlagSet) {
	f.DurationVar(&o.slo, "slo", 0, "latency of a good answer, for the goodput (default: every answer is good)")
	f.StringVar(&o.expect, "expect", "", "weights that the shares must agree with, such as blue=90,green=10")
	f.StringVar(&o.admin, "admin", "", "weir's admin API: compare the shares with its weights, and start the count of users anew when they change")
	f.StringVar(&o.route, "route", "predict", "route whose weights --admin watches")
	f.StringVarP(&o.output, "output", "o", "text", "text, json or html")
	f.StringVar(&o.html, "html", "", "file to write the report to as HTML too")
	f.StringVar(&o.hlog, "hlog", "", "file for the latencies of every second, in the log format of HdrHistogram, tagged by variant")
	f.BoolVarP(&o.quiet, "quiet", "q", false, "say nothing while it runs")
	f.StringVar(&o.maxErrors, "max-error-rate", "", "exit with 1 when more of the requests fail, such as 0.1% or 0.001")
	f.DurationVar(&o.maxP99, "max-p99", 0, "exit with 1 when the p99 latency is higher")
	f.Float64Var(&o.minRate, "min-rate", 0, "exit with 1 when fewer requests a second are answered without an error")
	f.Float64Var(&o.minGoodput, "min-goodput", 0, "exit with 1 when fewer answers a second are good, as --slo says")
}

// run attacks as o says and writes the report.
func run(ctx context.Context, o runOptions, w, messages io.Writer) error {
	work, err := o.prepare(messages)
	if err != nil {
		return err
	}
	report, err := work.report(ctx)
	if err == nil {
		err = work.log.close()
	}
	if err != nil {
		return failure{err}
	}
	if err := o.write(report, w); err != nil {
		return failure{err}
	}
	broken := work.thresholds.Check(report)
	if s := report.Saturation; s != nil && s.Rate == 0 {
		broken = append(broken, "no rate was kept")
	}
	if len(broken) > 0 {
		return failure{errors.New(strings.Join(broken, "; "))}
	}
	return nil
}

// write writes the report as asked for.
func (o *runOptions) write(r *bench.Report, w io.Writer) error {
	if o.html != "" {
		f, err := os.Create(o.html)
		if err != nil {
			return err
		}
		if err := errors.Join(r.HTML(f), f.Close()); err != nil {
			return fmt.Errorf("%s: %w", o.html, err)
		}
	}
	switch o.output {
	case "json":
		return r.JSON(w)
	case "html":
		return r.HTML(w)
	}
	return r.Text(w)
}
