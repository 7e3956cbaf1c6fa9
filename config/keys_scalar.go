package config

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// The outputs of the access log that are no file.
const (
	AccessStdout = "stdout"
	AccessStderr = "stderr"
	AccessOff    = "off"
)

// Levels returns the levels of the log, from the most to the least talkative.
func Levels() []string { return []string{"debug", "info", "warn", "error"} }

// Where the subject of an affinity, and the key of a limit, are read.
const (
	AffinityHeader   = "header"
	AffinityCookie   = "cookie"
	AffinityQuery    = "query"
	AffinityClientIP = "client_ip"
	AffinityJWT      = "jwt"     // a claim of the token that auth.jwt has accepted
	AffinityJSON     = "json"    // a field of the request's body
	AffinityAPIKey   = "api_key" // the name of the key that auth.api_key has accepted
	// AffinityClientCert is whom the client's certificate names: its first URI, else its first DNS name, else its
	// common name.
	AffinityClientCert = "client_cert"
)

// What serves for a missing subject, beside the name of a variant. The words win over a
// variant of that name.
const (
	FallbackRandom   = "random"
	FallbackClientIP = "client_ip"
)

func verbatim(s string) string { return s }

// variable is the schema of a value that a ${VAR} brings.
func variable() schema { return schema{"type": "string", "pattern": `\$\{`} }

func orVariable(bodies ...any) schema { return schema{"anyOf": append(bodies, variable())} }

func textSchema() schema { return schema{"type": "string"} }

func durationShape() shape[time.Duration] {
	return durationScalar(func(d time.Duration) error {
		if d <= 0 {
			return errors.New("is not more than 0; write a duration such as 10s")
		}
		return nil
	})
}

// pauseShape is a duration that may be 0s. most 0 is no bound.
func pauseShape(most time.Duration) shape[time.Duration] {
	return durationScalar(func(d time.Duration) error {
		if d < 0 {
			return errors.New("is less than 0; write 0s, or a duration such as 10s")
		}
		if most > 0 && d > most {
			return fmt.Errorf("is too long; write at most %s", FormatDuration(most))
		}
		return nil
	})
}

// durationScalar is a duration for which check finds nothing to say.
func durationScalar(check func(time.Duration) error) scalar[time.Duration] {
	return scalar[time.Duration]{
		want: "a duration such as 10s",
		parse: func(s string) (time.Duration, error) {
			d, err := ParseDuration(s)
			if err != nil {
				return 0, err
			}
			if err := check(d); err != nil {
				return 0, fmt.Errorf("%q %w", clip(s), err)
			}
			return d, nil
		},
		format: FormatDuration,
		body: func() schema {
			return orVariable(schema{"type": "string", "pattern": `^\+?(([0-9]+(\.[0-9]*)?|\.[0-9]+)(h|m|s|ms|us|µs|μs|ns))+$`})
		},
	}
}

func sizeShape() shape[Size] { return sizeUpTo(1<<63-1, "") }

// maxHead bounds what one connection may make weir hold in memory before a request is known.
const maxHead = 16 * MiB

func headLimitShape() shape[Size] { return sizeUpTo(maxHead, " of at most "+maxHead.String()) }

func sizeUpTo(most Size, bound string) shape[Size] {
	return scalar[Size]{
		want: "a size such as 64KiB", numeric: []string{"!!int"},
		parse: func(s string) (Size, error) {
			size, err := ParseSize(s)
			if err == nil && (size == 0 || size > most) {
				return 0, fmt.Errorf("%q is out of range; write a size%s, and more than 0", clip(s), bound)
			}
			return size, err
		},
		format: Size.String,
		body: func() schema {
			return orVariable(
				schema{"type": "integer", "minimum": 1, "maximum": int64(most)},
				schema{"type": "string", "pattern": `^[0-9]+([KMGT]i?B|kB|B)$`})
		},
	}
}

// maxCount keeps a slip of the pen from passing as a number of something.
const maxCount = 10_000_000

func countShape(least int) shape[int] { return countScalar(least, maxCount) }

// derivedCountShape is a count of at least 1 that has a default only where it is known what it follows; 0
// before.
func derivedCountShape() shape[int] {
	return unlessZero[int](countScalar(1, maxCount))
}

func countScalar(least, most int) scalar[int] {
	return scalar[int]{
		want: "a whole number", numeric: []string{"!!int"},
		parse: func(s string) (int, error) {
			n, err := strconv.Atoi(s)
			if err != nil && !errors.Is(err, strconv.ErrRange) {
				return 0, fmt.Errorf("%q is no whole number; write one from %d to %d", clip(s), least, most)
			}
			if err != nil || n < least || n > most {
				return 0, fmt.Errorf("%q is out of range; write a whole number from %d to %d", clip(s), least, most)
			}
			return n, nil
		},
		format: strconv.Itoa,
		body:   func() schema { return orVariable(schema{"type": "integer", "minimum": least, "maximum": most}) },
	}
}

func weightShape() shape[float64] {
	return scalar[float64]{
		want: "a number such as 90 or 0.5", numeric: []string{"!!int", "!!float"},
		parse: parseWeight, format: formatNumber,
		body: func() schema { return orVariable(schema{"type": "number", "minimum": 0, "maximum": MaxWeight}) },
	}
}

func percentShape() shape[float64] {
	return scalar[float64]{
		want: "a percentage such as 50 or 50%", numeric: []string{"!!int", "!!float"},
		parse: ParsePercent, format: formatNumber,
		body: func() schema {
			return orVariable(
				schema{"type": "number", "minimum": 0, "maximum": 100},
				schema{"type": "string", "pattern": `^([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][-+]?[0-9]+)?%$`})
		},
	}
}

// rateShape is a rate that may be absent, which is 0.
func rateShape() shape[Rate] {
	return scalar[Rate]{
		want: "a rate such as 200/s", optional: true, parse: ParseRate,
		format: func(r Rate) string {
			if r == 0 {
				return ""
			}
			return r.String()
		},
		body: func() schema {
			return orVariable(schema{"type": "string", "pattern": `^([0-9]+(\.[0-9]*)?|\.[0-9]+)/(s|m|h)$`})
		},
	}
}

func statusShape() shape[StatusRange] {
	return scalar[StatusRange]{
		want: "a status such as 200 or 200-299", numeric: []string{"!!int"},
		parse: parseStatusRange, format: StatusRange.String,
		body: func() schema {
			return orVariable(
				schema{"type": "integer", "minimum": 200, "maximum": 599},
				schema{"type": "string", "pattern": `^[2-5][0-9][0-9]-[2-5][0-9][0-9]$`})
		},
	}
}

func choiceShape(noun string, names []string) shape[string] {
	return scalar[string]{
		want: choices(names, "or"),
		parse: func(s string) (string, error) {
			if !slices.Contains(names, s) {
				return "", fmt.Errorf("unknown %s %q; want %s", noun, clip(s), choices(names, "or"))
			}
			return s, nil
		},
		format: verbatim,
		body:   func() schema { return orVariable(schema{"enum": slices.Clone(names)}) },
	}
}

func listenAddressShape() shape[string] {
	return scalar[string]{
		want: "HOST:PORT, as in 127.0.0.1:8080, or unix:PATH", parse: parseListenAddress, format: verbatim,
		body: func() schema { return orVariable(schema{"type": "string", "pattern": `:[0-9]+$|^unix:/.`}) },
	}
}

func adminAddressShape() shape[string] {
	return scalar[string]{
		want: "HOST:PORT, as in 127.0.0.1:9901", parse: parseAdminAddress, format: verbatim,
		body: func() schema { return orVariable(schema{"type": "string", "pattern": `:[0-9]+$`}) },
	}
}

func endpointAddressShape() shape[string] {
	return scalar[string]{
		want: "HOST:PORT, as in 127.0.0.1:8001, or unix:PATH", parse: parseEndpointAddress, format: verbatim,
		body: func() schema { return orVariable(schema{"type": "string", "pattern": `.:[0-9]+$|^unix:/.`}) },
	}
}

func nameShape() shape[string] {
	return scalar[string]{
		want: "a name", free: true, format: verbatim,
		parse: func(s string) (string, error) { return s, checkName(s) },
		body:  func() schema { return orVariable(schema{"type": "string", "pattern": namePattern}) },
	}
}

func optionalTextShape(want string) shape[string] {
	return scalar[string]{want: want, free: true, optional: true, parse: parseText, format: verbatim, body: textSchema}
}

// outputShape is where the access log goes. Paths are resolved once the file is read.
func outputShape() shape[string] {
	return scalar[string]{
		want: "stdout, stderr, off, or the path of a file", free: true, off: true, format: verbatim,
		parse: func(s string) (string, error) {
			if s == "" || strings.HasSuffix(s, "/") || strings.ContainsFunc(s, control) {
				return "", fmt.Errorf("%q is no path of a file; write stdout, stderr, off, or a path such as access.log", clip(s))
			}
			return s, nil
		},
		body: func() schema { return schema{"anyOf": []any{schema{"type": "string", "minLength": 1}, offSchema()}} },
	}
}

// pathShape is the path of a file, which may be absent. Paths are resolved once the file is read.
func pathShape() shape[string] {
	return scalar[string]{
		want: "the path of a file", free: true, optional: true, format: verbatim,
		parse: func(s string) (string, error) {
			if s == "" || strings.HasSuffix(s, "/") || strings.ContainsFunc(s, control) {
				return "", fmt.Errorf("%q is no path of a file; write one such as /etc/weir/FILE, or relative to the directory of this file", clip(s))
			}
			return s, nil
		},
		body: func() schema { return schema{"type": "string", "minLength": 1} },
	}
}

func probePathShape() shape[string] {
	return scalar[string]{
		want: "a path such as /health/ready", parse: parseProbePath, format: verbatim,
		body: func() schema { return orVariable(schema{"type": "string", "pattern": "^/"}) },
	}
}

func matchPathShape(parse func(string) (string, error)) shape[string] {
	return scalar[string]{
		want: "a path such as /predict", optional: true, parse: parse, format: verbatim,
		body: func() schema { return orVariable(schema{"type": "string", "pattern": "^/[^?#]*$"}) },
	}
}

func hostShape() shape[string] {
	return scalar[string]{
		want: "a host such as ml.example.com", free: true, optional: true,
		parse: parseMatchHost, format: verbatim, body: textSchema,
	}
}

func regexpShape() shape[*Regexp] {
	return scalar[*Regexp]{
		want: "a regular expression", free: true, optional: true, parse: parseRegexp, body: textSchema,
		format: func(re *Regexp) string {
			if re == nil {
				return ""
			}
			return re.String()
		},
	}
}
