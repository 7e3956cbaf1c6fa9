package bench

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Names of the arrival processes that a [Schedule] knows.
const (
	ArrivalsConstant = "constant" // evenly spaced
	ArrivalsPoisson  = "poisson"  // independent users
	ArrivalsBursts   = "bursts"   // poisson, and many at once every so often
	ArrivalsRamp     = "ramp"     // a rate that goes evenly from one to another
	ArrivalsSteps    = "steps"    // a rate that changes at once, and stays for a while
	ArrivalsTrace    = "trace"    // as recorded
)

// Schedule describes arrivals. Which fields count depends on Arrivals.
type Schedule struct {
	Arrivals string
	// Rate is requests a second: of constant and poisson, between bursts (0: none), and at the
	// start of a ramp (0: from nothing).
	Rate   float64
	RampTo float64       // rate at the end of a ramp
	Over   time.Duration // how long a ramp takes; it then stays at RampTo
	Steps  []Step        // one after the other; nothing is due after the last
	Burst  Burst
	Trace  []time.Duration // ascending offsets
	// Even spaces the arrivals of a ramp and of steps evenly; default is Poisson.
	Even bool
	// Seed draws the gaps: the same seed, the same schedule.
	Seed uint64
}

// Step is a rate that holds for a while; 0 is a pause.
type Step struct {
	Rate float64
	For  time.Duration
}

// Burst is so many requests due at the same moment, at the start of every period.
type Burst struct {
	Requests int
	Every    time.Duration
}

// MaxBurst is the largest number of requests in a [Burst].
const MaxBurst = 1_000_000

// Pacer returns the schedule that s describes, or says what is wrong with the description.
func (s Schedule) Pacer() (Pacer, error) {
	switch s.Arrivals {
	case ArrivalsConstant, ArrivalsPoisson:
		if s.Rate == 0 {
			return nil, fmt.Errorf("rate 0: must be more than 0")
		}
		if err := checkRate("rate", s.Rate); err != nil {
			return nil, err
		}
		if s.Arrivals == ArrivalsConstant {
			return Constant(s.Rate), nil
		}
		return Poisson(s.Rate, s.Seed), nil
	case ArrivalsBursts:
		return s.bursts()
	case ArrivalsRamp:
		return s.ramp()
	case ArrivalsSteps:
		return s.steps()
	case ArrivalsTrace:
		if len(s.Trace) == 0 {
			return nil, fmt.Errorf("trace: holds no arrivals")
		}
		return &trace{due: s.Trace}, nil
	}
	return nil, fmt.Errorf("arrivals %q: must be %s, %s, %s, %s, %s or %s", s.Arrivals,
		ArrivalsPoisson, ArrivalsConstant, ArrivalsBursts, ArrivalsRamp, ArrivalsSteps, ArrivalsTrace)
}

func checkRate(name string, rate float64) error {
	if !(rate >= 0 && rate <= MaxRate) {
		return fmt.Errorf("%s %v: must be at least 0 and at most %.0f requests a second", name, rate, float64(MaxRate))
	}
	return nil
}

func (s Schedule) bursts() (Pacer, error) {
	if err := checkRate("rate", s.Rate); err != nil {
		return nil, err
	}
	if s.Burst.Requests < 1 || s.Burst.Requests > MaxBurst || s.Burst.Every <= 0 {
		return nil, fmt.Errorf("burst %d/%v: must be 1 to %d requests, every so often", s.Burst.Requests, s.Burst.Every, MaxBurst)
	}
	between := Pacer(&trace{}) // nothing
	if s.Rate > 0 {
		between = Poisson(s.Rate, s.Seed)
	}
	return Bursts(s.Burst, between), nil
}

func (s Schedule) ramp() (Pacer, error) {
	if err := checkRate("rate", s.Rate); err != nil {
		return nil, err
	}
	if err := checkRate("rate at the end of the ramp", s.RampTo); err != nil {
		return nil, err
	}
	if s.Rate == 0 && s.RampTo == 0 {
		return nil, fmt.Errorf("ramp from 0 to 0: nothing would be due")
	}
	if s.Over <= 0 {
		return nil, fmt.Errorf("ramp over %v: must take some time", s.Over)
	}
	return Ramp(s.Rate, s.RampTo, s.Over, s.arrivals()), nil
}

func (s Schedule) steps() (Pacer, error) {
	highest := 0.0
	for _, step := range s.Steps {
		if err := checkRate("step", step.Rate); err != nil {
			return nil, err
		}
		if step.For <= 0 {
			return nil, fmt.Errorf("step %v:%v: must take some time", step.Rate, step.For)
		}
		highest = max(highest, step.Rate)
	}
	if highest == 0 {
		return nil, fmt.Errorf("steps: at least one with a rate above 0 is needed")
	}
	return Steps(s.Steps, s.arrivals()), nil
}

// arrivals is the process within a ramp or a step.
func (s Schedule) arrivals() Arrivals {
	if s.Even {
		return Even()
	}
	return Independent(s.Seed)
}

// Length is when the schedule ends by itself; 0 when it does not.
func (s Schedule) Length() time.Duration {
	switch s.Arrivals {
	case ArrivalsSteps:
		sum := time.Duration(0)
		for _, step := range s.Steps {
			sum += step.For
		}
		return sum
	case ArrivalsTrace:
		if len(s.Trace) > 0 {
			return s.Trace[len(s.Trace)-1] + 1 // nothing is due at the length itself
		}
	}
	return 0
}

// First is the rate at the start, for a warm-up: requests a second.
func (s Schedule) First() float64 {
	switch s.Arrivals {
	case ArrivalsBursts:
		return s.Rate + float64(s.Burst.Requests)/s.Burst.Every.Seconds()
	case ArrivalsSteps:
		for _, step := range s.Steps {
			if step.Rate > 0 {
				return step.Rate
			}
		}
	case ArrivalsTrace:
		if length := s.Length(); length > 0 {
			return float64(len(s.Trace)) / length.Seconds()
		}
	case ArrivalsRamp:
		if s.Rate == 0 {
			return s.RampTo / 10
		}
	}
	return s.Rate
}

// Mean is the average rate over so long, in requests a second: what Rate means for a report.
func (s Schedule) Mean(over time.Duration) float64 {
	t := over.Seconds()
	if t <= 0 {
		return s.First()
	}
	switch s.Arrivals {
	case ArrivalsBursts:
		return s.First()
	case ArrivalsRamp:
		end := s.Over.Seconds()
		within := min(t, end)
		atEnd := s.Rate + (s.RampTo-s.Rate)*within/end
		return ((s.Rate+atEnd)/2*within + s.RampTo*(t-within)) / t
	case ArrivalsSteps:
		count, left := 0.0, over
		for _, step := range s.Steps {
			count += step.Rate * min(step.For, left).Seconds()
			left -= min(step.For, left)
		}
		return count / t
	case ArrivalsTrace:
		n := 0
		for n < len(s.Trace) && s.Trace[n] < over {
			n++
		}
		return float64(n) / t
	}
	return s.Rate
}

// ParseSteps parses steps as flags give them: "100:10s,200:30s", a rate and how long it holds.
func ParseSteps(text string) ([]Step, error) {
	var steps []Step
	for part := range strings.SplitSeq(text, ",") {
		rate, length, found := strings.Cut(strings.TrimSpace(part), ":")
		r, err := strconv.ParseFloat(rate, 64)
		d, lengthErr := time.ParseDuration(length)
		if !found || err != nil || lengthErr != nil {
			return nil, fmt.Errorf("step %q: must be RATE:DURATION, such as 100:10s", part)
		}
		steps = append(steps, Step{r, d})
	}
	return steps, nil
}

// ParseBurst parses a burst as flags give it: "50/1s", how many and how often.
func ParseBurst(text string) (Burst, error) {
	requests, every, found := strings.Cut(text, "/")
	n, err := strconv.Atoi(requests)
	d, everyErr := time.ParseDuration(every)
	if !found || err != nil || everyErr != nil {
		return Burst{}, fmt.Errorf("burst %q: must be REQUESTS/PERIOD, such as 50/1s", text)
	}
	return Burst{n, d}, nil
}
