package admin

import (
	"bytes"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"regexp"
	"strings"

	"weir/config"
)

const (
	minToken     = 16      // characters; with fewer, guessing gets within reach
	maxTokenFile = 1 << 20 // bytes
	maxTokens    = 1000    // every request is compared with every one of them
)

// TokenSet is the content of a token file. nil asks for no token.
//
// A line is a token: TOKEN alone, which may do everything and is called "token", or NAME:read:TOKEN or
// NAME:write:TOKEN. Several tokens may have one name, as they do while one takes over from another.
// Only digests are kept.
type TokenSet struct {
	tokens []token
	// Warning is what the operator should be told about the file, "" for nothing.
	Warning string
}

// token is one that a request may bring.
type token struct {
	name   string
	write  bool
	digest [sha256.Size]byte
}

// tokenName is what shows up as a name in logs and history.
var tokenName = regexp.MustCompile(`^[A-Za-z0-9._-]{1,63}$`)

// ReadTokens reads a token file; without a path it returns nil. The error is of type config.Faults,
// and never has a token in it.
func ReadTokens(path string) (*TokenSet, error) {
	if path == "" {
		return nil, nil
	}
	lines, warning, err := readTokenFile(path, regular)
	if err != nil {
		return nil, err
	}
	set := &TokenSet{Warning: warning}
	for _, l := range lines {
		set.tokens = append(set.tokens, token{name: l.name, write: l.write, digest: sha256.Sum256([]byte(l.secret))})
	}
	return set, nil
}

// FirstToken is for clients that are given a token file: the first token that may write, else the
// first. The file may be one to wait for, as a shell's <(…) is.
func FirstToken(path string) (string, error) {
	lines, _, err := readTokenFile(path, func(string) error { return nil })
	var faults config.Faults
	if errors.As(err, &faults) {
		for i := range faults {
			faults[i].Key = "" // a client has no configuration
		}
		return "", faults
	}
	for _, l := range lines {
		if l.write {
			return l.secret, nil
		}
	}
	return lines[0].secret, nil
}

// find returns the token that has the secret. It takes as long for a wrong secret as for a right one,
// wherever that stands: neither the digests nor the order can be learned from the time.
func (s *TokenSet) find(secret string) (found token, ok bool) {
	digest := sha256.Sum256([]byte(secret))
	at := -1
	for i := range s.tokens {
		at = subtle.ConstantTimeSelect(subtle.ConstantTimeCompare(digest[:], s.tokens[i].digest[:]), i, at)
	}
	if at < 0 {
		return token{}, false
	}
	return s.tokens[at], true
}

// tokenLine is a line of a token file.
type tokenLine struct {
	name   string
	write  bool
	secret string
}

// readTokenFile returns at least one line, or all that is wrong with the file, which check may refuse unopened.
func readTokenFile(path string, check func(path string) error) (lines []tokenLine, warning string, err error) {
	var faults config.Faults
	fault := func(line, column int, format string, args ...any) {
		faults = append(faults, config.Fault{File: path, Line: line, Column: column, Key: "admin.token_file", Message: fmt.Sprintf(format, args...)})
	}
	var data []byte
	if err = check(path); err == nil {
		data, warning, err = readSecret(path)
	}
	if err != nil {
		fault(0, 0, "%s", err)
		return nil, "", faults
	}
	first := map[string]int{} // the line of each secret
	number := 0
	for text := range bytes.Lines(data) {
		number++
		trimmed := strings.TrimSpace(string(text))
		if trimmed == "" || trimmed[0] == '#' {
			continue
		}
		line, message := parseTokenLine(trimmed)
		before, twice := first[line.secret]
		switch column := 1 + bytes.Index(text, []byte(trimmed)); {
		case message != "":
			fault(number, column, "%s", message)
		case twice:
			fault(number, column, "the token is that of line %d; make one for each line", before)
		case len(lines) == maxTokens:
			fault(number, column, "there are more than %d tokens; leave some out", maxTokens)
			return nil, "", faults
		default:
			first[line.secret] = number
			lines = append(lines, line)
		}
	}
	if len(lines) == 0 && len(faults) == 0 {
		fault(1, 1, "the file has no token; write one a line: TOKEN, or NAME:read:TOKEN or NAME:write:TOKEN")
	}
	if len(faults) > 0 {
		return nil, "", faults
	}
	return lines, warning, nil
}

// parseTokenLine says what is wrong with a line without quoting it: any part of it may be a secret.
func parseTokenLine(s string) (line tokenLine, message string) {
	line = tokenLine{name: "token", write: true, secret: s}
	if strings.Contains(s, ":") {
		parts := strings.SplitN(s, ":", 3)
		switch {
		case len(parts) < 3 || parts[1] != "read" && parts[1] != "write":
			return line, "the line has a colon and is not NAME:read:TOKEN or NAME:write:TOKEN; write one of these, or a TOKEN without a colon"
		case !tokenName.MatchString(parts[0]):
			return line, "the name is not 1 to 63 of the characters A-Z a-z 0-9 . _ -; write such a name before the first colon"
		}
		line = tokenLine{name: parts[0], write: parts[1] == "write", secret: parts[2]}
	}
	switch {
	case strings.ContainsFunc(line.secret, func(r rune) bool { return r <= ' ' || r > '~' }):
		return line, "the token has a character that cannot be sent in a header; write it in visible ASCII without blanks"
	case len(line.secret) < minToken:
		return line, fmt.Sprintf("the token has %d characters; write at least %d, chosen at random, as of openssl rand -hex 32", len(line.secret), minToken)
	}
	return line, ""
}

// regular refuses what could block whoever opens or reads it, as a named pipe does until somebody writes.
func regular(path string) error {
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return unreadable(err)
	case info.IsDir():
		return errors.New("is a directory; name a file with tokens")
	case !info.Mode().IsRegular():
		return errors.New("is a pipe, a socket or a device, which could keep weir waiting for ever; name a regular file")
	}
	return nil
}

// readSecret reads a file that others should not read.
func readSecret(path string) (data []byte, warning string, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, "", unreadable(err)
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		return nil, "", unreadable(err)
	}
	if info.Mode().Perm()&0o004 != 0 {
		warning = fmt.Sprintf("%s can be read by every user of this machine (mode %04o); chmod o-r it", path, info.Mode().Perm())
	}
	if data, err = io.ReadAll(io.LimitReader(f, maxTokenFile+1)); err != nil {
		return nil, "", unreadable(err)
	}
	if len(data) > maxTokenFile {
		return nil, "", fmt.Errorf("is larger than %s, the most that is read; is it a file of tokens?", config.Size(maxTokenFile))
	}
	return bytes.TrimPrefix(data, []byte("\ufeff")), warning, nil
}

func unreadable(err error) error {
	if cause := (*fs.PathError)(nil); errors.As(err, &cause) {
		err = cause.Err
	}
	return fmt.Errorf("cannot be read: %w", err)
}
