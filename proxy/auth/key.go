package auth

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"regexp"
	"strings"
)

// Keys are the keys of a file, by their digests; the keys themselves are not kept.
type Keys struct{ names map[digest]string }

// keyName is what shows up in logs and metrics.
var keyName = regexp.MustCompile(`^[A-Za-z0-9._-]{1,63}$`)

// maxKey is how long a key may be.
const maxKey = 4096

// ParseKeys reads lines NAME:KEY or NAME:sha256:HEX. Several keys may have one name, as they do while one takes
// over from another. The error never has a key in it.
func ParseKeys(data []byte) (*Keys, error) {
	k := &Keys{names: map[digest]string{}}
	for number, line := range contentLines(data) {
		name, key, ok := strings.Cut(line, ":")
		if !ok || !keyName.MatchString(name) || key == "" {
			return nil, fmt.Errorf("line %d is not NAME:KEY or NAME:sha256:HEX, where a name is 1 to 63 of the characters A-Z a-z 0-9 . _ -", number)
		}
		if len(key) > maxKey || strings.ContainsFunc(key, func(r rune) bool { return r <= ' ' || r > '~' }) {
			return nil, fmt.Errorf("line %d: the key of %s is longer than %d characters, or has some that no header can hold", number, name, maxKey)
		}
		sum := sha256.Sum256([]byte(key))
		if text, hashed := strings.CutPrefix(key, "sha256:"); hashed {
			decoded, err := hex.DecodeString(text)
			if err != nil || len(decoded) != len(sum) {
				return nil, fmt.Errorf("line %d: behind sha256: there must be 64 hexadecimal digits", number)
			}
			copy(sum[:], decoded)
		}
		if other, twice := k.names[sum]; twice {
			return nil, fmt.Errorf("line %d: the key of %s is that of %s", number, name, other)
		}
		k.names[sum] = name
	}
	return k, nil
}

// Find returns the name of a key. That takes as long whatever part of a key is right.
func (k *Keys) Find(key []byte) (name string, ok bool) {
	if len(key) == 0 || len(key) > maxKey {
		return "", false
	}
	name, ok = k.names[sha256.Sum256(key)]
	return name, ok
}
