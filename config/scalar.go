package config

import "regexp"

// Size is a number of bytes.
type Size int64

// Regexp is a compiled regular expression in Go's (RE2) syntax.
type Regexp struct{ *regexp.Regexp }
