package acme

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"golang.org/x/crypto/acme"

	"weir/internal/telemetry"
)

// What becomes of orders.
const (
	Obtained = "obtained"
	Renewed  = "renewed"
	Failed   = "failed"
)

// Event is the outcome of an order.
type Event struct {
	Domain string `json:"domain"`
	// Outcome is Obtained, Renewed or Failed.
	Outcome string `json:"outcome"`
	// Expires is when the certificate in force does; zero: there is none.
	Expires time.Time `json:"expires,omitzero"`
	// Why and Next are of a failure: what was wrong, and when it is tried again.
	Why  string    `json:"why,omitempty"`
	Next time.Time `json:"next,omitzero"`
}

const (
	backoffLeast = time.Minute
	backoffMost  = 6 * time.Hour
	// lookEvery is how often the clock and the cache are looked at: the clock may jump, and another weir may
	// have renewed a certificate of a cache that is shared.
	lookEvery = time.Hour
)

// Domain is a name and its certificate. Open it with OpenDomain.
type Domain struct {
	name    string
	file    string // that keeps the certificate
	account *Account
	kinds   []string // of challenges, in the order in which they are tried
	backoff time.Duration
	tell    func(Event)
	log     *zap.Logger

	current, challenge        atomic.Pointer[tls.Certificate] // nil: there is none
	obtained, renewed, failed atomic.Uint64
	failure                   atomic.Pointer[Event] // of the last order; nil: it went well

	refresh chan struct{} // holds one
	cancel  context.CancelFunc
	ended   sync.WaitGroup
}

// OpenDomain reads the certificate for a name from the cache, if there is one. plain says that HTTP-01 is of use, too.
func OpenDomain(a *Account, name string, plain bool) (*Domain, error) {
	d := &Domain{
		name: name, file: filepath.Join(a.dir, name+".pem"), account: a, kinds: []string{tlsALPN}, backoff: backoffLeast,
		tell: func(Event) {}, refresh: make(chan struct{}, 1),
	}
	if plain {
		d.kinds = append(d.kinds, http01)
	}
	if err := d.look(time.Now()); err != nil && !errors.Is(err, errUnfit) {
		return nil, err
	}
	return d, nil
}

// Tell has f called with the outcome of each order. It must come before Start.
func (d *Domain) Tell(f func(Event)) { d.tell = f }

// Name is the domain.
func (d *Domain) Name() string { return d.name }

// File is where the certificate is kept.
func (d *Domain) File() string { return d.file }

// Certificate is the one in force; nil: there is none yet.
func (d *Domain) Certificate() *tls.Certificate { return d.current.Load() }

// Challenge is the certificate that meets TLS-ALPN-01; nil while it is not asked for.
func (d *Domain) Challenge() *tls.Certificate { return d.challenge.Load() }

// NotAfter is when the certificate in force expires; zero: there is none.
func (d *Domain) NotAfter() (t time.Time) {
	if c := d.current.Load(); c != nil {
		t = c.Leaf.NotAfter
	}
	return t
}

// Fresh reports whether there is a certificate and the last order went well.
func (d *Domain) Fresh() bool { return d.Reason() == "" }

// Reason says what is wrong with the certificate; "": nothing.
func (d *Domain) Reason() string {
	failure, now := d.failure.Load(), time.Now()
	what := ""
	switch at := d.NotAfter(); {
	case at.IsZero():
		what = "there is no certificate yet"
	case now.After(at):
		what = "the certificate has expired"
	case failure != nil:
		what = "the certificate, which expires at " + stamp(at) + ", could not be renewed"
	default:
		return ""
	}
	what = "acme: " + d.name + ": " + what
	if failure != nil {
		what += ": " + failure.Why + "; next try at " + stamp(failure.Next)
	}
	return what
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// Outcomes are how many orders ended how, since the start.
func (d *Domain) Outcomes() map[string]uint64 {
	return map[string]uint64{Obtained: d.obtained.Load(), Renewed: d.renewed.Load(), Failed: d.failed.Load()}
}

// Refresh has the cache looked at now. It does not hurry an order: authorities count.
func (d *Domain) Refresh() {
	select {
	case d.refresh <- struct{}{}:
	default:
	}
}

// Start obtains and renews the certificate until Stop.
func (d *Domain) Start(log *zap.Logger) {
	if d.log = log; log == nil {
		d.log = zap.NewNop()
	}
	ctx, cancel := context.WithCancel(context.Background())
	d.cancel = cancel
	d.ended.Go(func() { d.run(ctx) })
}

// Stop ends that. An order under way is left.
func (d *Domain) Stop() {
	if d.cancel != nil {
		d.cancel()
		d.ended.Wait()
	}
}

func (d *Domain) run(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	failures, early := 0, rand.Float64()
	var earliest time.Time // that the next order may be made
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		case <-d.refresh:
		}
		if err := d.look(time.Now()); err != nil && !errors.Is(err, errUnfit) {
			d.log.Warn("the cache of certificates cannot be read", zap.String("file", d.file), telemetry.Exception(err))
		}
		next := later(d.due(early), earliest)
		if !time.Now().Before(next) {
			renewal := d.current.Load() != nil
			met, err := d.obtain(ctx)
			if ctx.Err() != nil {
				return
			}
			if err != nil {
				failures++
				earliest = d.fails(err, failures)
			} else {
				failures, early = 0, rand.Float64()
				// An authority whose clock is another one must not be asked again and again.
				earliest = time.Now().Add(d.lasts() / 4)
				d.succeeds(met, renewal)
			}
			next = later(d.due(early), earliest)
		}
		timer.Reset(min(max(time.Until(next), time.Millisecond), lookEvery))
	}
}

func later(a, b time.Time) time.Time {
	if a.Before(b) {
		return b
	}
	return a
}

// lasts is the whole time of the certificate in force.
func (d *Domain) lasts() time.Duration {
	c := d.current.Load()
	if c == nil {
		return 0
	}
	return c.Leaf.NotAfter.Sub(c.Leaf.NotBefore)
}

// due is when the certificate is to be renewed: with a third of its time left, or half of it where it lasts less than
// ten days, as Let's Encrypt advises. early, of 0 to 1, spreads the renewals of many over a fiftieth of that time.
func (d *Domain) due(early float64) time.Time {
	lasts := d.lasts()
	if lasts == 0 {
		return time.Time{} // at once
	}
	left := lasts / 3
	if lasts < 10*24*time.Hour {
		left = lasts / 2
	}
	return d.NotAfter().Add(-left - time.Duration(early*float64(lasts)/50))
}

func (d *Domain) succeeds(met string, renewal bool) {
	d.failure.Store(nil)
	e := Event{Domain: d.name, Outcome: Obtained, Expires: d.NotAfter()}
	count := &d.obtained
	if renewal {
		e.Outcome, count = Renewed, &d.renewed
	}
	count.Add(1)
	d.log.Info("a certificate was "+e.Outcome, zap.String("domain", d.name), zap.Time("expires", e.Expires), zap.String("challenge", met),
		zap.String("directory", d.account.cfg.Directory), zap.String("file", d.file))
	d.tell(e)
}

// fails puts the next order off, for twice as long with each failure, or as long as the authority asks for.
func (d *Domain) fails(err error, failures int) time.Time {
	wait := backoffMost
	if shift := failures - 1; shift < 16 {
		wait = min(d.backoff<<shift, backoffMost)
	}
	wait += time.Duration(rand.Float64() * float64(wait) / 10)
	if asked, ok := rateLimit(err); ok && asked > wait {
		wait = asked
	}
	next := time.Now().Add(wait)
	e := Event{Domain: d.name, Outcome: Failed, Expires: d.NotAfter(), Why: shorten(err.Error()), Next: next}
	d.failed.Add(1)
	d.failure.Store(&e)
	d.log.Warn("a certificate cannot be obtained; see that the name leads here, by port 443 or 80, from where the authority is", zap.String("domain", d.name),
		telemetry.Exception(errors.New(e.Why)), zap.Time("next", next), zap.Time("expires", e.Expires), zap.String("directory", d.account.cfg.Directory))
	d.tell(e)
	return next
}

// rateLimit is how long the authority asks to be left alone.
func rateLimit(err error) (time.Duration, bool) {
	refusal := (*acme.Error)(nil)
	if !errors.As(err, &refusal) {
		return 0, false
	}
	wait, ok := acme.RateLimit(refusal)
	return min(wait, 7*24*time.Hour), ok
}

// shorten bounds what others have written: a line of a log, and an event, is no place for a page.
func shorten(s string) string {
	const most = 1000
	line := []rune(s)
	if len(line) > most {
		line = append(line[:most], '…')
	}
	for i, r := range line {
		if r < ' ' || r == 0x7f {
			line[i] = ' '
		}
	}
	return string(line)
}

// errUnfit is the error of a certificate in the cache that is not of use: a new one is ordered.
var errUnfit = errors.New("is of no use")

// look puts the certificate of the cache in force, if it is fit for use and lasts longer than the one that is.
func (d *Domain) look(now time.Time) error {
	data, err := os.ReadFile(d.file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("the cache cannot be used: %w", err)
	}
	pair, err := d.parse(data, now)
	if err != nil {
		return fmt.Errorf("%s %w", d.file, err)
	}
	if pair.Leaf.NotAfter.After(d.NotAfter()) {
		d.current.Store(pair)
	}
	return nil
}

// parse reads a key and its chain, and judges them.
func (d *Domain) parse(data []byte, now time.Time) (*tls.Certificate, error) {
	pair, err := tls.X509KeyPair(data, data)
	if err == nil {
		err = pair.Leaf.VerifyHostname(d.name)
	}
	if err == nil && now.After(pair.Leaf.NotAfter) {
		err = errors.New("it expired at " + stamp(pair.Leaf.NotAfter))
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errUnfit, err)
	}
	return &pair, nil
}

// keep puts a certificate in force that was obtained, and stores it. Where that fails it is in force all the same.
func (d *Domain) keep(data []byte) error {
	pair, err := d.parse(data, time.Now())
	if err != nil {
		return fmt.Errorf("what the authority has issued %w", err)
	}
	d.current.Store(pair)
	if err := write(d.file, data); err != nil {
		d.log.Error("a certificate cannot be kept: it is ordered again after a restart, and authorities count", zap.String("file", d.file), telemetry.Exception(err))
	}
	return nil
}
