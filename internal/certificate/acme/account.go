// Package acme obtains TLS certificates from an authority by RFC 8555 and renews them.
//
// A Domain has one name and its certificate; an Account is what its orders are made with. Everything that takes
// time happens in a goroutine of the domain, between Start and Stop: a handshake asks for the certificate that there
// is. The protocol is golang.org/x/crypto/acme's. Its autocert is not used: it orders certificates within
// handshakes, its timers of renewals cannot be stopped, and it tells nobody of a failure.
package acme

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"
	"golang.org/x/crypto/acme"

	"weir/config"
	"weir/internal/certificate"
)

// ALPN is the protocol of TLS-ALPN-01 (RFC 8737).
const ALPN = acme.ALPNProto

const (
	atOnce      = 4                // orders of an account
	requestTime = 30 * time.Second // one request to the authority
	retries     = 4                // of a request that the authority was too busy for
	retryPause  = 10 * time.Second // at most, before one; what takes longer is left to the next order
)

// Account is weir's at one authority. Its key is made with the first order.
type Account struct {
	cfg   config.ACME
	dir   string // of the authority, in the cache
	slots chan struct{}
	turn  chan struct{} // of those that use client and what belongs to it

	// Behind turn.
	client *acme.Client // registered; nil: it has to be
	roots  []byte       // that client trusts

	mu     sync.RWMutex
	tokens map[string][]byte // answers to HTTP-01, by token
}

// OpenAccount reads what cfg names, and neither writes nor asks the authority. The domains of cfg are of no matter.
func OpenAccount(cfg config.ACME) (*Account, error) {
	u, err := url.Parse(cfg.Directory)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256([]byte(cfg.Directory))
	// The host is for people, and the sum for authorities with several directories, as those with one for trials.
	name := strings.Map(func(r rune) rune {
		if r == ':' || r == '[' || r == ']' {
			return '-'
		}
		return r
	}, u.Host) + "-" + hex.EncodeToString(sum[:4])
	a := &Account{
		cfg: cfg, dir: filepath.Join(cfg.Cache, name), slots: make(chan struct{}, atOnce), turn: make(chan struct{}, 1),
		tokens: map[string][]byte{},
	}
	for _, dir := range []string{cfg.Cache, a.dir} {
		switch info, err := os.Stat(dir); {
		case errors.Is(err, fs.ErrNotExist): // it is made with the first order
		case err != nil:
			return nil, fmt.Errorf("the cache cannot be used: %w", err)
		case !info.IsDir():
			return nil, fmt.Errorf("the cache %s is a file; want a directory", dir)
		}
	}
	if _, _, err := a.authorities(); err != nil {
		return nil, err
	}
	if _, err := a.readKey(); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	return a, nil
}

// Answer is what HTTP-01 wants to see at /.well-known/acme-challenge/ and the token; nil for a token that no order
// of now has.
func (a *Account) Answer(token string) []byte {
	a.mu.RLock()
	defer a.mu.RUnlock()
	return a.tokens[token]
}

// Name says which account it is.
func (a *Account) Name() string { return "account at " + a.cfg.Directory }

// Fresh is true: an account has nothing that ages.
func (a *Account) Fresh() bool { return true }

// Start does nothing.
func (a *Account) Start(*zap.Logger) {}

// Stop does nothing; an account that is not used has no connections for long.
func (a *Account) Stop() {}

// offer has token answered until withdraw.
func (a *Account) offer(token, answer string) (withdraw func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.tokens[token] = []byte(answer)
	return func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		delete(a.tokens, token)
	}
}

// authorities are those that vouch for the directory; nil: the system's.
func (a *Account) authorities() (pool *x509.CertPool, data []byte, err error) {
	if a.cfg.CA == "" {
		return nil, nil, nil
	}
	if data, err = os.ReadFile(a.cfg.CA); err != nil {
		return nil, nil, fmt.Errorf("the authorities of the directory cannot be read: %w", err)
	}
	if pool, err = certificate.ParseAuthorities(data); err != nil {
		return nil, nil, fmt.Errorf("%s %w", a.cfg.CA, err)
	}
	return pool, data, nil
}

// registered is a client whose account the authority knows.
func (a *Account) registered(ctx context.Context) (*acme.Client, error) {
	select {
	case a.turn <- struct{}{}:
		defer func() { <-a.turn }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	pool, data, err := a.authorities()
	if err != nil {
		return nil, err
	}
	if a.client != nil && bytes.Equal(data, a.roots) {
		return a.client, nil
	}
	key, err := a.key()
	if err != nil {
		return nil, err
	}
	client := &acme.Client{Key: key, DirectoryURL: a.cfg.Directory, UserAgent: "weir", HTTPClient: a.http(pool), RetryBackoff: pause}
	account := &acme.Account{}
	if a.cfg.Email != "" {
		account.Contact = []string{"mailto:" + a.cfg.Email}
	}
	_, err = client.Register(ctx, account, acme.AcceptTOS)
	if errors.Is(err, acme.ErrAccountAlreadyExists) {
		err = nil
		if account.Contact != nil { // it may be another one than before
			_, err = client.UpdateReg(ctx, account)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("no account at %s: %w", a.cfg.Directory, err)
	}
	a.client, a.roots = client, data
	return client, nil
}

// forget has the next order register again: the authority may have lost the account.
func (a *Account) forget(ctx context.Context) {
	select {
	case a.turn <- struct{}{}:
		a.client = nil
		<-a.turn
	case <-ctx.Done():
	}
}

// http asks the authority.
func (a *Account) http(pool *x509.CertPool) *http.Client {
	return &http.Client{Timeout: requestTime, Transport: &http.Transport{
		Proxy: http.ProxyFromEnvironment, TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12},
		ForceAttemptHTTP2: true, MaxIdleConnsPerHost: atOnce, IdleConnTimeout: time.Second,
	}}
}

// pause is how long to wait before a request is sent again that the authority was too busy for; 0: it is not.
func pause(n int, _ *http.Request, resp *http.Response) time.Duration {
	wait := time.Second << min(n-1, 5)
	if s, err := strconv.Atoi(resp.Header.Get("Retry-After")); err == nil && s > 0 {
		wait = time.Duration(s) * time.Second
	}
	if n > retries || wait > retryPause {
		return 0
	}
	return wait
}

func (a *Account) keyFile() string { return filepath.Join(a.dir, "account.key") }

// key is the account's, and makes it if there is none.
func (a *Account) key() (crypto.Signer, error) {
	key, err := a.readKey()
	if err == nil || !errors.Is(err, fs.ErrNotExist) {
		return key, err
	}
	fresh, text, err := newKey()
	if err != nil {
		return nil, err
	}
	if err := write(a.keyFile(), text); err != nil {
		return nil, fmt.Errorf("the key of the account cannot be kept: %w", err)
	}
	return fresh, nil
}

func (a *Account) readKey() (crypto.Signer, error) {
	data, err := os.ReadFile(a.keyFile())
	if err != nil {
		return nil, err
	}
	if block, _ := pem.Decode(data); block != nil {
		if key, err := x509.ParsePKCS8PrivateKey(block.Bytes); err == nil {
			if signer, ok := key.(crypto.Signer); ok {
				return signer, nil
			}
		}
	}
	return nil, fmt.Errorf("%s holds no private key; put the one of the account back, or remove the file for a new account", a.keyFile())
}

// newKey is one on P-256, also as PEM.
func newKey() (*ecdsa.PrivateKey, []byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, nil, err
	}
	return key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

// write replaces a file as a whole, which only its owner may read.
func write(path string, data []byte) error {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, ".new-*") // with mode 0600
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if closing := f.Close(); err == nil {
		err = closing
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		_ = os.Remove(f.Name())
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer func() { _ = d.Close() }()
	return d.Sync()
}
