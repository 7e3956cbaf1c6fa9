package auth

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"slices"
)

// KeySet are the public keys of a JSON Web Key Set (RFC 7517) by which tokens can be verified.
type KeySet struct{ keys []publicKey }

type publicKey struct {
	id        string
	algorithm string // the only one it is for; "": each of its family
	family    family
	key       crypto.PublicKey
}

// family is a kind of keys; an algorithm takes those of one. A key of another kind must never be tried: the
// public key of one scheme may be a secret that anybody knows in another.
type family string

const (
	familyRSA     family = "RSA"
	familyP256    family = "P-256"
	familyP384    family = "P-384"
	familyP521    family = "P-521"
	familyEd25519 family = "Ed25519"
)

var families = map[string]family{
	"RS256": familyRSA, "RS384": familyRSA, "RS512": familyRSA, "PS256": familyRSA, "PS384": familyRSA, "PS512": familyRSA,
	"ES256": familyP256, "ES384": familyP384, "ES512": familyP521, "EdDSA": familyEd25519,
}

const (
	maxKeys    = 256
	maxTried   = 8 // keys of one token
	minRSABits = 2048
	maxRSABits = 8192 // a token with a larger one would take a millisecond
)

// ParseKeySet reads a key set. Keys that verify nothing, or that are not understood, are passed over (RFC 7517, 5).
func ParseKeySet(data []byte) (*KeySet, error) {
	var document struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(data, &document); err != nil {
		return nil, fmt.Errorf("no JSON Web Key Set: %w", err)
	}
	if len(document.Keys) > maxKeys {
		return nil, fmt.Errorf("there are %d keys; at most %d", len(document.Keys), maxKeys)
	}
	s := &KeySet{}
	var faults error
	for i, raw := range document.Keys {
		k, err := parseKey(raw)
		if err != nil {
			faults = errors.Join(faults, fmt.Errorf("keys[%d]: %w", i, err))
			continue
		}
		s.keys = append(s.keys, k)
	}
	if len(s.keys) == 0 {
		return nil, errors.Join(errors.New("there is no key by which a token could be verified"), faults)
	}
	return s, nil
}

func parseKey(raw json.RawMessage) (k publicKey, err error) {
	var j struct {
		Type       string   `json:"kty"`
		Use        string   `json:"use"`
		Operations []string `json:"key_ops"`
		ID         string   `json:"kid"`
		Algorithm  string   `json:"alg"`
		Curve      string   `json:"crv"`
		N, E, X, Y string
	}
	if err := json.Unmarshal(raw, &j); err != nil {
		return k, errors.New("no JSON Web Key")
	}
	k.id, k.algorithm = j.ID, j.Algorithm
	if j.Use != "" && j.Use != "sig" || j.Operations != nil && !slices.Contains(j.Operations, "verify") {
		return k, errors.New("it is not for signatures")
	}
	switch j.Type {
	case "RSA":
		k.family = familyRSA
		k.key, err = rsaKey(j.N, j.E)
	case "EC":
		k.family = family(j.Curve)
		k.key, err = ecKey(j.Curve, j.X, j.Y)
	case "OKP":
		k.family = family(j.Curve)
		k.key, err = okpKey(j.Curve, j.X)
	default:
		err = fmt.Errorf("keys of type %.16q verify no token", j.Type)
	}
	if err == nil && j.Algorithm != "" && families[j.Algorithm] != k.family {
		err = fmt.Errorf("algorithm %.16q has no such keys", j.Algorithm)
	}
	return k, err
}

func rsaKey(n, e string) (*rsa.PublicKey, error) {
	modulus, err := unbase64(n)
	if err != nil {
		return nil, fmt.Errorf("n: %w", err)
	}
	exponent, err := unbase64(e)
	if err != nil {
		return nil, fmt.Errorf("e: %w", err)
	}
	key := &rsa.PublicKey{N: new(big.Int).SetBytes(modulus)}
	if bits := key.N.BitLen(); bits < minRSABits || bits > maxRSABits {
		return nil, fmt.Errorf("%d bits; from %d to %d", bits, minRSABits, maxRSABits)
	}
	x := new(big.Int).SetBytes(exponent)
	if !x.IsInt64() || x.Int64() < 3 || x.Int64() > 1<<31-1 || x.Bit(0) == 0 {
		return nil, errors.New("e: no exponent of a public key")
	}
	key.E = int(x.Int64())
	return key, nil
}

func ecKey(curve, x, y string) (*ecdsa.PublicKey, error) {
	curves := map[string]elliptic.Curve{"P-256": elliptic.P256(), "P-384": elliptic.P384(), "P-521": elliptic.P521()}
	c := curves[curve]
	if c == nil {
		return nil, fmt.Errorf("curve %.16q is not known", curve)
	}
	size := (c.Params().BitSize + 7) / 8
	point := []byte{4} // uncompressed (SEC 1, 2.3.3)
	for _, text := range []string{x, y} {
		n, err := unbase64(text)
		if err != nil || len(n) != size {
			return nil, fmt.Errorf("x and y must be of %d bytes each", size)
		}
		point = append(point, n...)
	}
	return ecdsa.ParseUncompressedPublicKey(c, point) // which looks whether it is on the curve
}

func okpKey(curve, x string) (ed25519.PublicKey, error) {
	if curve != string(familyEd25519) {
		return nil, fmt.Errorf("curve %.16q is not known", curve)
	}
	key, err := unbase64(x)
	if err != nil || len(key) != ed25519.PublicKeySize {
		return nil, fmt.Errorf("x must be of %d bytes", ed25519.PublicKeySize)
	}
	return key, nil
}

func unbase64(s string) ([]byte, error) {
	b, err := base64.RawURLEncoding.DecodeString(s)
	if err == nil && len(b) == 0 {
		err = errors.New("missing")
	}
	return b, err
}

// fitting are the keys that may have signed a token with this algorithm and key id. named says that there is a
// key for the id, or none was given.
func (s *KeySet) fitting(algorithm, id string) (keys []crypto.PublicKey, named bool) {
	want := families[algorithm]
	for _, k := range s.keys {
		if k.id == id && id != "" {
			named = true
		}
		switch {
		case k.family != want, k.algorithm != "" && k.algorithm != algorithm, id != "" && k.id != "" && k.id != id, len(keys) == maxTried:
		default:
			keys = append(keys, k.key)
		}
	}
	return keys, named || id == "" || len(keys) > 0
}

// equal reports whether another set has the same keys.
func (s *KeySet) equal(other *KeySet) bool {
	return other != nil && slices.EqualFunc(s.keys, other.keys, func(a, b publicKey) bool {
		k, ok := a.key.(interface{ Equal(crypto.PublicKey) bool })
		return ok && k.Equal(b.key) && a.id == b.id && a.algorithm == b.algorithm
	})
}
