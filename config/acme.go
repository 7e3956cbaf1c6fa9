package config

import (
	"fmt"
	"net/netip"
	"net/url"
	"strings"
)

// ACME says how a listener gets certificates from an authority by RFC 8555.
type ACME struct {
	// Domains are the names, one certificate each, in lower case.
	Domains []string
	// Email is whom the authority tells of trouble; "": nobody.
	Email string
	// Directory is the URL of the authority's directory.
	Directory string
	// Cache is the path of the directory that keeps the account and the certificates.
	Cache string
	// CA is the path of a PEM file: who has signed the certificate of the directory itself; "": the system's authorities.
	CA string
	// AcceptTerms says that the terms of service of the authority are agreed to.
	AcceptTerms bool
}

// LetsEncrypt is the directory of Let's Encrypt.
const LetsEncrypt = "https://acme-v02.api.letsencrypt.org/directory"

// DefaultACME asks Let's Encrypt.
func DefaultACME() ACME { return ACME{Directory: LetsEncrypt} }

func acmeShape() shape[*ACME] {
	return optional[ACME]{fresh: DefaultACME, inner: object[ACME]{fields: []field[ACME]{
		key("domains", list[string]{noun: "domain", least: 1, most: 1024, fresh: func() string { return "" }, elem: scalar[string]{
			want: "a name such as ml-api.example.com", free: true, parse: parseDomain, format: verbatim, body: textSchema,
		}}, func(a *ACME) *[]string { return &a.Domains },
			"The names to get a certificate for, one each. The authority has to reach weir by them: port 443 at this listener, or port 80 at a listener without TLS.").must(),
		key("email", scalar[string]{
			want: "an address such as ops@example.com", free: true, optional: true, parse: parseEmail, format: verbatim, body: textSchema,
		}, func(a *ACME) *string { return &a.Email },
			"Whom the authority may write to. Absent: nobody."),
		key("directory", scalar[string]{
			want: "the URL of a directory", free: true, parse: parseDirectory, format: verbatim, body: textSchema,
		}, func(a *ACME) *string { return &a.Directory },
			"The authority: the https URL of its directory."),
		key("cache", pathShape(), func(a *ACME) *string { return &a.Cache },
			"The path of the directory that keeps the account's key and the certificates with theirs, so that they survive a restart; it is made if need be. For each authority there is a directory in it.").must(),
		key("ca", pathShape(), func(a *ACME) *string { return &a.CA },
			"The path of a PEM file: the authorities that vouch for the directory itself, where it is private. Absent: those of the system."),
		key("accept_terms", boolShape(), func(a *ACME) *bool { return &a.AcceptTerms },
			"That you agree to the terms of service of the authority, which its directory names. It has to be true.").must(),
	}}}
}

// parseDomain takes a name that a certificate can be had for without access to its zone.
func parseDomain(s string) (string, error) {
	name := strings.ToLower(strings.TrimSuffix(s, "."))
	want := "want one such as ml-api.example.com"
	if _, err := netip.ParseAddr(name); err == nil {
		return "", fmt.Errorf("%q is an address, not a name; %s", clip(s), want)
	}
	if strings.HasPrefix(name, "*.") {
		return "", fmt.Errorf("%q has a wildcard, which takes access to the zone (DNS-01); name each domain, or get the certificate by other means and write it in certificates", clip(s))
	}
	labels := strings.Split(name, ".")
	for _, label := range labels {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' || !only(label, "abcdefghijklmnopqrstuvwxyz0123456789-") {
			return "", fmt.Errorf("%q is no domain; %s, and others than ASCII as xn--…", clip(s), want)
		}
	}
	if len(labels) < 2 || len(name) > 253 {
		return "", fmt.Errorf("%q is no public domain; %s", clip(s), want)
	}
	return name, nil
}

func parseEmail(s string) (string, error) {
	user, host, ok := strings.Cut(s, "@")
	if !ok || user == "" || host == "" || strings.ContainsAny(s, " ,;<>?%\"") || strings.Contains(host, "@") || strings.ContainsFunc(s, control) {
		return "", fmt.Errorf("%q is no address of e-mail; want one such as ops@example.com", clip(s))
	}
	return s, nil
}

func parseDirectory(s string) (string, error) {
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil || u.Fragment != "" || strings.ContainsFunc(s, control) {
		return "", fmt.Errorf("%q is no URL of a directory; want one such as %s, with https:// and without a password", clip(s), LetsEncrypt)
	}
	return s, nil
}

// validateACME checks what one listener says of ACME by itself.
func validateACME(r *report, a *ACME, at string) {
	if a == nil || !r.sound(at) {
		return
	}
	seen := map[string]int{}
	for i, name := range a.Domains {
		if first, ok := seen[name]; ok {
			r.fault(item(at+".domains", i), "is the same as %s; leave one of them out", item(at+".domains", first))
			continue
		}
		seen[name] = i
	}
	if !a.AcceptTerms {
		r.fault(at+".accept_terms", "is false; without your agreement to its terms of service the authority gives no certificate: read them, and write true, or leave acme out")
	}
}

// validateAccounts refuses two listeners whose accounts would be kept at the same place.
func validateAccounts(r *report, c *Config) {
	for i, l := range c.Listeners {
		if l.TLS == nil || l.TLS.ACME == nil || l.TLS.ACME.Cache == "" {
			continue
		}
		own := l.TLS.ACME
		for j, other := range c.Listeners[:i] {
			if other.TLS == nil || other.TLS.ACME == nil {
				continue
			}
			if a := other.TLS.ACME; a.Cache == own.Cache && a.Directory == own.Directory && (a.Email != own.Email || a.CA != own.CA) {
				r.fault(item("listeners", i)+".tls.acme", "has another email or ca than %s, with the same directory and cache, where one account is kept; make them alike, or name another cache",
					item("listeners", j)+".tls.acme")
				break
			}
		}
	}
}
