package acme

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/crypto/acme"
)

// Types of challenges.
const (
	tlsALPN = "tls-alpn-01"
	http01  = "http-01"
)

// orderTime bounds one order: an authority that is busy, or looks from several places, takes minutes.
const orderTime = 10 * time.Minute

// errRefused is the error of an order whose challenge was not met: another kind may be.
var errRefused = errors.New("the authority could not verify the domain")

// obtain gets a certificate and stores it. It returns the challenge that was met; "" where none was asked for.
func (d *Domain) obtain(ctx context.Context) (met string, err error) {
	ctx, cancel := context.WithTimeout(ctx, orderTime)
	defer cancel()
	select {
	case d.account.slots <- struct{}{}:
		defer func() { <-d.account.slots }()
	case <-ctx.Done():
		return "", ctx.Err()
	}
	client, err := d.account.registered(ctx)
	if err != nil {
		return "", err
	}
	defer client.HTTPClient.CloseIdleConnections() // the next order is months away
	var failed []error
	for _, kind := range d.kinds {
		met, pair, err := d.order(ctx, client, kind)
		if err == nil {
			// The one that works comes first from now on: authorities count failures.
			d.kinds = slices.Insert(slices.DeleteFunc(d.kinds, func(k string) bool { return k == kind }), 0, kind)
			return met, d.keep(pair)
		}
		failed = append(failed, fmt.Errorf("%s: %w", kind, err))
		if !errors.Is(err, errRefused) {
			break
		}
	}
	d.account.forget(ctx)
	return "", errors.Join(failed...)
}

// order makes one order, with challenges of one kind. It returns the key and the chain, as PEM.
func (d *Domain) order(ctx context.Context, client *acme.Client, kind string) (met string, pair []byte, err error) {
	o, err := client.AuthorizeOrder(ctx, acme.DomainIDs(d.name))
	if err != nil {
		return "", nil, err
	}
	for _, at := range o.AuthzURLs {
		asked, err := d.authorize(ctx, client, at, kind)
		if err != nil {
			return "", nil, err
		}
		if asked {
			met = kind
		}
	}
	ready, err := client.WaitOrder(ctx, o.URI)
	if err != nil {
		return "", nil, err
	}
	ready.URI = o.URI // authorities say it when the order is made, and need not again
	key, text, err := newKey()
	if err != nil {
		return "", nil, err
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{DNSNames: []string{d.name}}, key)
	if err != nil {
		return "", nil, err
	}
	chain, _, err := client.CreateCertFromOrder(ctx, ready, csr, true)
	if err != nil {
		return "", nil, err
	}
	for _, der := range chain {
		text = append(text, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	}
	return met, text, nil
}

// authorize has the authority verify the domain; asked is false where it has done so lately.
func (d *Domain) authorize(ctx context.Context, client *acme.Client, at, kind string) (asked bool, err error) {
	z, err := client.GetAuthorization(ctx, at)
	if err != nil {
		return false, err
	}
	switch z.Status {
	case acme.StatusValid:
		return false, nil
	case acme.StatusPending:
	default:
		return false, fmt.Errorf("the authorization is %s; want it pending", z.Status)
	}
	i := slices.IndexFunc(z.Challenges, func(c *acme.Challenge) bool { return c.Type == kind })
	if i < 0 {
		return false, fmt.Errorf("%w: it does not offer this challenge", errRefused)
	}
	challenge := z.Challenges[i]
	withdraw, err := d.present(client, challenge)
	if err != nil {
		return false, err
	}
	defer withdraw()
	if _, err := client.Accept(ctx, challenge); err != nil {
		return false, err
	}
	if _, err := client.WaitAuthorization(ctx, z.URI); err != nil {
		if refusal := (*acme.AuthorizationError)(nil); errors.As(err, &refusal) {
			return false, fmt.Errorf("%w: %w", errRefused, err)
		}
		return false, err
	}
	return true, nil
}

// present has weir meet a challenge until withdraw.
func (d *Domain) present(client *acme.Client, c *acme.Challenge) (withdraw func(), err error) {
	if c.Type == http01 {
		answer, err := client.HTTP01ChallengeResponse(c.Token)
		if err != nil {
			return nil, err
		}
		return d.account.offer(c.Token, answer), nil
	}
	cert, err := client.TLSALPN01ChallengeCert(c.Token, d.name)
	if err != nil {
		return nil, err
	}
	d.challenge.Store(&cert)
	return func() { d.challenge.Store(nil) }, nil
}
