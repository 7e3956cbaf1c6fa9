package auth

import (
	"bytes"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"hash"
	"regexp"
	"strings"
	"sync"

	"golang.org/x/crypto/bcrypt"
)

// Users are the names and passwords of an htpasswd file, hashed with bcrypt.
type Users struct {
	byName   map[string]user
	stranger []byte // is checked for names that there are not, so that the time does not tell which there are
	verified *recent[struct{}]
	hashes   sync.Pool // of HMAC-SHA256 with a key that nobody knows
}

type user struct {
	name string
	hash []byte
}

const (
	maxCost     = 15    // of bcrypt: 2 s for each log-in, and twice that with each one more
	defaultCost = 10    // where there is no user to tell
	maxVerified = 10000 // passwords
)

var bcryptHash = regexp.MustCompile(`^\$2[aby]\$[0-3][0-9]\$[./A-Za-z0-9]{53}$`)

// ParseUsers reads the lines NAME:HASH of an htpasswd file. The error never has a hash in it.
func ParseUsers(data []byte) (*Users, error) {
	u := &Users{byName: map[string]user{}, verified: newRecent[struct{}](maxVerified)}
	highest := 0
	for number, line := range contentLines(data) {
		name, hash, ok := strings.Cut(line, ":")
		if !ok || name == "" || strings.ContainsFunc(name, control) {
			return nil, fmt.Errorf("line %d is not NAME:HASH", number)
		}
		hash, _, _ = strings.Cut(hash, ":") // a comment, as nginx has it
		if !bcryptHash.MatchString(hash) {
			return nil, fmt.Errorf("line %d: the password of %q is not hashed with bcrypt, and other ways are not safe; write it anew with htpasswd -B", number, name)
		}
		cost, err := bcrypt.Cost([]byte(hash))
		switch {
		case err != nil:
			return nil, fmt.Errorf("line %d: the password of %q: %w", number, name, err)
		case cost > maxCost:
			return nil, fmt.Errorf("line %d: the cost of the password of %q is %d, which takes seconds; at most %d", number, name, cost, maxCost)
		}
		if _, twice := u.byName[name]; twice {
			return nil, fmt.Errorf("line %d: %q is there a second time", number, name)
		}
		u.byName[name] = user{name, []byte(hash)}
		highest = max(highest, cost)
	}
	if highest == 0 {
		highest = defaultCost
	}
	u.stranger = fmt.Appendf(nil, "$2a$%02d$%s", highest, strings.Repeat("u", 53))
	secret := make([]byte, sha256.Size)
	_, _ = rand.Read(secret) // never fails
	u.hashes.New = func() any { return hmac.New(sha256.New, secret) }
	return u, nil
}

// Recall reports whether the password was found to be the user's before; name is the user's then.
func (u *Users) Recall(name, password []byte) (who string, ok bool) {
	known, ok := u.byName[string(name)]
	if !ok {
		return "", false
	}
	_, ok = u.verified.Get(u.digest(name, password))
	return known.name, ok
}

// Verify reports whether the password is the user's. It takes the processor for some 70 ms, as bcrypt is
// meant to, whether there is such a user or not.
func (u *Users) Verify(name, password []byte) (who string, ok bool) {
	known, ok := u.byName[string(name)]
	if !ok {
		_ = bcrypt.CompareHashAndPassword(u.stranger, password)
		return "", false
	}
	if bcrypt.CompareHashAndPassword(known.hash, password) != nil {
		return "", false
	}
	u.verified.Add(u.digest(name, password), struct{}{})
	return known.name, true
}

// digest stands for a name and a password. A name has no colon, so that no two of them look alike.
func (u *Users) digest(name, password []byte) (sum digest) {
	h := u.hashes.Get().(hash.Hash)
	h.Reset()
	_, _ = h.Write(name)
	_, _ = h.Write(colon)
	_, _ = h.Write(password)
	h.Sum(sum[:0])
	u.hashes.Put(h)
	return sum
}

var colon = []byte(":")

// MaxBasic is how long credentials of a name and a password may be.
const MaxBasic = 1024

// Basic decodes the credentials of the scheme Basic (RFC 7617, 2).
func Basic(credentials []byte) (name, password []byte, ok bool) {
	if len(credentials) > MaxBasic {
		return nil, nil, false
	}
	plain, err := base64.StdEncoding.Strict().AppendDecode(nil, credentials)
	if err != nil {
		return nil, nil, false
	}
	return bytes.Cut(plain, colon)
}
