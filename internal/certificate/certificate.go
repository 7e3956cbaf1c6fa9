// Package certificate serves a TLS certificate from two files and follows them: a renewed pair is
// in force from the next handshake, without a restart.
package certificate

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"weir/config"
	"weir/internal/telemetry"
)

// Options are what a Watcher may be told. The zero value is of use.
type Options struct {
	// Log gets the swaps and the pairs that are refused. Default: none.
	Log *zap.Logger
	// Now is the clock that certificates are judged by. Default: time.Now.
	Now func() time.Time
}

// The two files of a renewal are seldom replaced at the same instant.
const (
	settle = 2 * time.Second // how long a pair may be unfit before it is worth a warning
	again  = time.Minute     // between two looks at an unfit pair: it may become valid without a change
)

// Load reads a pair and judges it: the key is the certificate's, and now lies in its time. The
// error names the file at fault, and never quotes what is in it.
func Load(certFile, keyFile string, now time.Time) (*tls.Certificate, error) {
	cert, err := os.ReadFile(certFile)
	if err != nil {
		return nil, unreadable(certFile, err)
	}
	key, err := os.ReadFile(keyFile)
	if err != nil {
		return nil, unreadable(keyFile, err)
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return nil, fmt.Errorf("%s and %s are no pair: %w; both must be PEM, and the key that of the first certificate", certFile, keyFile, err)
	}
	switch leaf := pair.Leaf; {
	case now.After(leaf.NotAfter):
		return nil, fmt.Errorf("%s expired at %s; put a renewed certificate in its place", certFile, stamp(leaf.NotAfter))
	case now.Before(leaf.NotBefore):
		return nil, fmt.Errorf("%s is not valid before %s; wait until then, or set the clock right", certFile, stamp(leaf.NotBefore))
	}
	return &pair, nil
}

func unreadable(file string, err error) error {
	if cause := (*fs.PathError)(nil); errors.As(err, &cause) {
		err = cause.Err
	}
	return fmt.Errorf("%s cannot be read: %w", file, err)
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// Watcher holds one pair and follows its files from Start to Stop. Open it with Open or Watch.
type Watcher struct {
	certFile, keyFile string
	log               *zap.Logger
	now               func() time.Time
	settle, again     time.Duration

	current atomic.Pointer[tls.Certificate]
	unfit   atomic.Bool   // what the files hold now
	changed chan struct{} // holds one: two changes before a look are one
	cancel  context.CancelFunc
	ended   sync.WaitGroup
}

// Open reads the pair, which must be fit for use. It does not follow the files yet.
func Open(certFile, keyFile string) (*Watcher, error) {
	return open(certFile, keyFile, Options{}, settle, again)
}

// Watch reads the pair, which must be fit for use, and follows the files until Close.
func Watch(certFile, keyFile string, o Options) (*Watcher, error) {
	return watch(certFile, keyFile, o, settle, again)
}

func watch(certFile, keyFile string, o Options, settle, again time.Duration) (*Watcher, error) {
	w, err := open(certFile, keyFile, o, settle, again)
	if err == nil {
		w.Start(o.Log)
	}
	return w, err
}

func open(certFile, keyFile string, o Options, settle, again time.Duration) (*Watcher, error) {
	w := &Watcher{
		certFile: certFile, keyFile: keyFile, now: o.Now,
		settle: settle, again: again, changed: make(chan struct{}, 1),
	}
	if w.now == nil {
		w.now = time.Now
	}
	pair, err := Load(certFile, keyFile, w.now())
	if err != nil {
		return nil, err
	}
	w.current.Store(pair)
	return w, nil
}

// Start follows the files until Stop. The log, which may be nil, gets the swaps and the pairs that are refused.
func (w *Watcher) Start(log *zap.Logger) {
	if w.log = log; log == nil {
		w.log = zap.NewNop()
	}
	if looseKey(w.keyFile) {
		w.log.Warn("everybody on this machine may read a private key; take that from others, as with chmod o-rwx", zap.String("file", w.keyFile))
	}
	ctx, cancel := context.WithCancel(context.Background())
	w.cancel = cancel
	for _, file := range []string{w.certFile, w.keyFile} {
		done := config.Watch(ctx, file, func(err error) { w.log.Warn("cannot watch the certificate", telemetry.Exception(err)) }, w.signal)
		w.ended.Go(func() { <-done })
	}
	w.signal() // the files may have changed between being read and being watched
	w.ended.Go(func() { w.run(ctx) })
}

// Stop ends that. The pair stays what it is.
func (w *Watcher) Stop() {
	if w.cancel != nil {
		w.cancel()
		w.ended.Wait()
	}
}

// Close is Stop.
func (w *Watcher) Close() { w.Stop() }

// Name is the path of the certificate.
func (w *Watcher) Name() string { return w.certFile }

// Fresh reports whether what the files hold is in force.
func (w *Watcher) Fresh() bool { return !w.unfit.Load() }

// looseKey reports whether everybody may read a file.
func looseKey(file string) bool {
	info, err := os.Stat(file)
	return err == nil && info.Mode().Perm()&0o007 != 0
}

// Refresh has the files looked at now, for file systems that tell of no change.
func (w *Watcher) Refresh() { w.signal() }

// File is the path of the certificate, which names the pair in logs and metrics.
func (w *Watcher) File() string { return w.certFile }

// Certificate is the pair in force.
func (w *Watcher) Certificate() *tls.Certificate { return w.current.Load() }

// GetCertificate is for tls.Config: every handshake gets the pair in force.
func (w *Watcher) GetCertificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	return w.current.Load(), nil
}

// NotAfter is when the certificate in force expires.
func (w *Watcher) NotAfter() time.Time { return w.current.Load().Leaf.NotAfter }

func (w *Watcher) signal() {
	select {
	case w.changed <- struct{}{}:
	default:
	}
}

// run looks at the files after every change, and at an unfit pair again until it is fit.
func (w *Watcher) run(ctx context.Context) {
	timer := time.NewTimer(w.again)
	timer.Stop()
	defer timer.Stop()
	told, waited := "", false
	for {
		select {
		case <-ctx.Done():
			return
		case <-w.changed:
			waited = false
		case <-timer.C:
			waited = true
		}
		err := w.look()
		switch {
		case err == nil:
			told = ""
			w.unfit.Store(false)
			timer.Stop()
		case !waited: // the other file may be on its way
			timer.Reset(w.settle)
		default:
			w.unfit.Store(true)
			if told != err.Error() {
				told = err.Error()
				w.log.Warn("the new certificate is not fit for use; the one before it stays in force", telemetry.Exception(err),
					zap.String("file", w.certFile), zap.Time("expires", w.NotAfter()))
			}
			timer.Reset(w.again)
		}
	}
}

// look puts the pair of the files in force if it is fit.
func (w *Watcher) look() error {
	pair, err := Load(w.certFile, w.keyFile, w.now())
	if err != nil {
		return err
	}
	if same(pair, w.current.Load()) {
		return nil
	}
	w.current.Store(pair)
	w.log.Info("a new certificate is in force", zap.String("file", w.certFile), zap.Strings("names", pair.Leaf.DNSNames),
		zap.Time("expires", pair.Leaf.NotAfter))
	return nil
}

// same compares whole chains: a renewal may replace only what leads to the authority.
func same(a, b *tls.Certificate) bool {
	return slices.EqualFunc(a.Certificate, b.Certificate, bytes.Equal)
}
