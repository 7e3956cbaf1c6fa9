package config

import (
	"crypto/tls"
	"fmt"
	"os"
	"slices"
	"strings"
)

// ListenerTLS says how a listener speaks TLS.
type ListenerTLS struct {
	// Certificates: the one that a client gets is the first that has the name it asks for, then the first that has
	// it by a wildcard, then the first.
	Certificates []Certificate
	// ACME obtains certificates; nil: those of Certificates are all.
	ACME *ACME
	// MinVersion is one of TLSVersions.
	MinVersion string
	// Ciphers are what TLS 1.2 may use, as crypto/tls calls them; empty: what crypto/tls takes for safe.
	Ciphers []string
	// ClientCA is the path of a PEM file of authorities whose certificates clients present; "": they present none.
	ClientCA string
	// ClientAuth is ClientAuthRequire, ClientAuthOptional, or "", which is the first.
	ClientAuth string
}

// Whether clients have to present a certificate.
const (
	ClientAuthRequire  = "require"
	ClientAuthOptional = "optional"
)

// TLSVersions returns the versions that a min_version may name.
func TLSVersions() []string { return []string{"1.2", "1.3"} }

// TLSVersion is the version of crypto/tls that min_version names.
func TLSVersion(name string) uint16 {
	if name == "1.3" {
		return tls.VersionTLS13
	}
	return tls.VersionTLS12
}

// CipherSuites are the numbers of ciphers that a file names; nil for none.
func CipherSuites(names []string) (ids []uint16) {
	for _, s := range tls.CipherSuites() {
		if slices.Contains(names, s.Name) {
			ids = append(ids, s.ID)
		}
	}
	return ids
}

// TLSCiphers returns the ciphers that a file may name: those of TLS 1.2 that are safe.
func TLSCiphers() (names []string) {
	for _, s := range tls.CipherSuites() {
		if slices.Contains(s.SupportedVersions, tls.VersionTLS12) {
			names = append(names, s.Name)
		}
	}
	return names
}

func parseCipher(s string) (string, error) {
	if slices.Contains(TLSCiphers(), s) {
		return s, nil
	}
	has := func(suites []*tls.CipherSuite) bool {
		return slices.ContainsFunc(suites, func(c *tls.CipherSuite) bool { return c.Name == s })
	}
	what := "unknown cipher"
	switch {
	case has(tls.CipherSuites()):
		what = "TLS 1.3 has no choice of ciphers, all of its are safe:"
	case has(tls.InsecureCipherSuites()):
		what = "unsafe cipher"
	}
	return "", fmt.Errorf("%s %q; want %s", what, clip(s), choices(TLSCiphers(), "or"))
}

func listenerTLSShape() shape[*ListenerTLS] {
	return optional[ListenerTLS]{fresh: DefaultListenerTLS, inner: object[ListenerTLS]{fields: []field[ListenerTLS]{
		key("certificates", list[Certificate]{
			noun: "certificate", least: 1, most: 1024, optional: true, fresh: func() (c Certificate) { return c },
			identity: func(c *Certificate) string { return c.Cert }, sum: func(c *Certificate) string { return "key " + c.Key }, elem: certificateShape(),
		}, func(t *ListenerTLS) *[]Certificate { return &t.Certificates },
			"The certificates with their keys. A client gets the one with the name it asks for (SNI), else one with a wildcard that covers the name, else one obtained by acme for the name, else the first. Required without acme."),
		key("acme", acmeShape(), func(t *ListenerTLS) **ACME { return &t.ACME },
			"Gets certificates from an authority (RFC 8555: TLS-ALPN-01 at this listener, else HTTP-01 at one without TLS) and renews them. Absent: certificates are all there are."),
		key("min_version", tlsVersionShape(), func(t *ListenerTLS) *string { return &t.MinVersion },
			"The oldest version of TLS that is spoken: 1.2 or 1.3."),
		key("ciphers", list[string]{noun: "cipher", least: 1, optional: true, fresh: func() string { return "" }, elem: scalar[string]{
			want: "the name of a cipher", parse: parseCipher, format: verbatim, body: func() schema { return orVariable(schema{"enum": TLSCiphers()}) },
		}}, func(t *ListenerTLS) *[]string { return &t.Ciphers },
			"What TLS 1.2 may use, by its IANA names; those of TLS 1.3 are all safe and always allowed. Absent: what Go takes for safe, forward secrecy included."),
		key("client_ca", pathShape(), func(t *ListenerTLS) *string { return &t.ClientCA },
			"The path of a PEM file of authorities. Clients then present a certificate that one of them has signed (mTLS); who it names is the request's client_cert, and the endpoint is told by X-Forwarded-Client-Cert. The file is read again when it changes. Absent: clients are not asked."),
		key("client_auth", optionalChoiceShape("client_auth", []string{ClientAuthRequire, ClientAuthOptional}), func(t *ListenerTLS) *string { return &t.ClientAuth },
			"Whether clients without a certificate are refused: require or optional. One that is not valid is refused in any case. Absent: require."),
	}}}
}

// tlsVersionShape also takes a version without quotes, which YAML takes for a number.
func tlsVersionShape() shape[string] {
	s := choiceShape("version of TLS", TLSVersions()).(scalar[string])
	s.body = func() schema { return orVariable(schema{"enum": []any{"1.2", "1.3", 1.2, 1.3}}) }
	return s
}

// optionalChoiceShape is choiceShape for a key that may be absent.
func optionalChoiceShape(noun string, names []string) shape[string] {
	s := choiceShape(noun, names).(scalar[string])
	s.optional = true
	return s
}

func validateListenerTLS(r *report, t *ListenerTLS, at string) {
	if t == nil || !r.sound(at) {
		return
	}
	if len(t.Certificates) == 0 && t.ACME == nil {
		r.fault(at+".certificates", "is missing; write certificates with their keys, or acme, which obtains them")
	}
	validateACME(r, t.ACME, at+".acme")
	seen := map[Certificate]int{}
	for i, c := range t.Certificates {
		if first, ok := seen[c]; ok {
			r.fault(item(at+".certificates", i), "is the same as %s; leave one of them out", item(at+".certificates", first))
			continue
		}
		seen[c] = i
	}
	if t.ClientAuth != "" && t.ClientCA == "" {
		r.fault(at+".client_auth", "has no effect without client_ca, the authorities of the clients' certificates; add that, or leave client_auth out")
	}
	if t.MinVersion == "1.3" && len(t.Ciphers) > 0 {
		r.fault(at+".ciphers", "has no effect with min_version 1.3, which has ciphers of its own; leave one of them out")
	}
}

// PoolTLS says how weir speaks TLS with the endpoints of a pool.
type PoolTLS struct {
	// CA is the path of a PEM file of authorities; "": those of the system.
	CA string
	// Cert and Key are the paths of weir's own certificate; "": it presents none.
	Cert, Key string
	// ServerName is what the endpoints' certificates are held against; "": the host of each.
	ServerName string
	// InsecureSkipVerify takes any certificate.
	InsecureSkipVerify bool
	// MinVersion is one of TLSVersions.
	MinVersion string
}

func poolTLSShape() shape[*PoolTLS] {
	return optional[PoolTLS]{fresh: DefaultPoolTLS, inner: object[PoolTLS]{fields: []field[PoolTLS]{
		key("ca", pathShape(), func(t *PoolTLS) *string { return &t.CA },
			"The path of a PEM file: the authorities whose certificates the endpoints present. It is read again when it changes. Absent: those of the system."),
		key("cert", pathShape(), func(t *PoolTLS) *string { return &t.Cert },
			"The path of a PEM file: the certificate that weir presents, then those that lead to its authority. Both files are read again when they change. Absent: it presents none."),
		key("key", pathShape(), func(t *PoolTLS) *string { return &t.Key },
			"The path of a PEM file: the private key of the certificate."),
		key("server_name", serverNameShape(), func(t *PoolTLS) *string { return &t.ServerName },
			"The name that the endpoints' certificates must have, and that they are asked for (SNI). Absent: the host of each endpoint's address, localhost for a Unix socket; an IP address has to be in the certificate as one."),
		key("insecure_skip_verify", boolShape(), func(t *PoolTLS) *bool { return &t.InsecureSkipVerify },
			"Takes any certificate: whoever is on the way can read and change everything."),
		key("min_version", tlsVersionShape(), func(t *PoolTLS) *string { return &t.MinVersion },
			"The oldest version of TLS that is spoken: 1.2 or 1.3."),
	}}}
}

func serverNameShape() shape[string] {
	return scalar[string]{
		want: "a host name such as models.example.com", free: true, optional: true, format: verbatim, body: textSchema,
		parse: func(s string) (string, error) {
			if s == "" || len(s) > 253 || !only(strings.ToLower(s), "abcdefghijklmnopqrstuvwxyz0123456789-_.:") {
				return "", fmt.Errorf("%q is no host name; want one such as models.example.com", clip(s))
			}
			return s, nil
		},
	}
}

func validatePoolTLS(r *report, t *PoolTLS, at string) {
	if t == nil || !r.sound(at) {
		return
	}
	switch {
	case t.Cert != "" && t.Key == "":
		r.fault(at+".key", "is missing; the certificate %s is of no use without its private key", clip(t.Cert))
	case t.Key != "" && t.Cert == "":
		r.fault(at+".cert", "is missing; the private key %s is of no use without its certificate", clip(t.Key))
	}
	if t.InsecureSkipVerify && t.CA != "" {
		r.fault(at+".ca", "has no effect with insecure_skip_verify, which takes any certificate; leave one of them out")
	}
}

// validateClientCert refuses what depends on the certificates of clients where no listener asks for them.
func validateClientCert(r *report, c *Config, route *Route, at string) {
	asked := slices.ContainsFunc(c.Listeners, func(l Listener) bool { return l.TLS != nil && l.TLS.ClientCA != "" })
	if asked || !r.sound("listeners") {
		return
	}
	needs := func(key, kind string) {
		if kind == AffinityClientCert && r.sound(key) {
			r.fault(key, "needs the certificate of the client, which no listener asks for; write client_ca in the tls of one, or another source")
		}
	}
	if a := route.Affinity; a != nil {
		needs(at+".affinity.key", a.Source)
	}
	if l := route.RateLimit; l != nil {
		needs(at+".rate_limit.key", l.Source)
	}
	if l := route.Concurrency; l != nil {
		needs(at+".concurrency.key", l.Key.Kind)
	}
	for _, change := range headerChanges(route, at) {
		for _, h := range change.fields {
			parts, _ := ParseTemplate(h.Value)
			for _, p := range parts {
				needs(child(change.key, h.Name), p.Variable)
			}
		}
	}
}

// tlsPaths are the files that TLS of listeners and pools reads.
func tlsPaths(c *Config) (paths []*string) {
	for i := range c.Listeners {
		if t := c.Listeners[i].TLS; t != nil {
			for j := range t.Certificates {
				paths = append(paths, &t.Certificates[j].Cert, &t.Certificates[j].Key)
			}
			paths = append(paths, &t.ClientCA)
			if a := t.ACME; a != nil {
				paths = append(paths, &a.Cache, &a.CA)
			}
		}
	}
	for i := range c.Pools {
		if t := c.Pools[i].TLS; t != nil {
			paths = append(paths, &t.CA, &t.Cert, &t.Key)
		}
	}
	return paths
}

// Fault is something wrong with what a key names, which Load does not look at: a file, mostly. It is placed where
// the file of c has the key now.
func (c *Config) Fault(key, message string) Fault {
	f := Fault{File: c.File, Key: key, Message: oneLine(message)}
	data, err := os.ReadFile(c.File)
	if c.File == "" || err != nil || len(data) > MaxFile {
		return f
	}
	d := newDecoder(c.File, MaxFile)
	root := d.document(data)
	if root == nil {
		return f
	}
	d.checkStructure(root, nil)
	d.substitute(root, nil, os.LookupEnv)
	again := DefaultConfig()
	read(d, shape[Config](fileShape()), root, "", &again)
	pos := d.valueOf(key)
	f.Line, f.Column = pos.line, pos.column
	return f
}

// ItemKey is the path of an item of a list, as in listeners[0].tls.
func ItemKey(list string, index int, rest ...string) string {
	return strings.Join(append([]string{item(list, index)}, rest...), ".")
}
