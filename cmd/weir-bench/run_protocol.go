package main

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/pflag"
)

// protocolOptions are the flags that say what is spoken.
type protocolOptions struct {
	http2    bool
	streams  int
	caFile   string
	insecure bool
	grpc     string
}

func (o *protocolOptions) flags(f *pflag.FlagSet) {
	f.BoolVar(&o.http2, "http2", false, "speak HTTP/2: by ALPN to https://, by prior knowledge to http://")
	f.IntVar(&o.streams, "streams", 1, "requests under way at once on each connection, with HTTP/2")
	f.StringVar(&o.caFile, "ca-file", "", "PEM file with the authorities that the server's certificate must come from (default: the system's)")
	f.BoolVar(&o.insecure, "insecure", false, "take any certificate of the server")
	f.StringVar(&o.grpc, "grpc", "", "method to call with the message in --body, /PACKAGE.SERVICE/METHOD, over HTTP/2: latency is to the trailers, a grpc-status other than 0 is an error")
}

// secure reports whether a target is spoken to over TLS.
func secure(target string) bool { return strings.HasPrefix(strings.ToLower(target), "https:") }

// check says which flags contradict each other.
func (o *protocolOptions) check(target string) error {
	switch {
	case !secure(target) && (o.caFile != "" || o.insecure):
		return errors.New("--ca-file and --insecure go with a target of https://")
	case o.caFile != "" && o.insecure:
		return errors.New("--ca-file and --insecure exclude each other")
	case o.streams < 1 || o.streams > 1 && !o.http2:
		return fmt.Errorf("--streams %d: must be 1, or more with --http2 or gRPC", o.streams)
	}
	return nil
}

// tls returns how TLS is spoken to a target; nil for http://.
func (o *protocolOptions) tls(target string) (*tls.Config, error) {
	if !secure(target) {
		return nil, nil
	}
	config := &tls.Config{InsecureSkipVerify: o.insecure}
	if o.caFile == "" {
		return config, nil
	}
	pem, err := os.ReadFile(o.caFile)
	if err != nil {
		return nil, fmt.Errorf("ca-file: %w", err)
	}
	config.RootCAs = x509.NewCertPool()
	if !config.RootCAs.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("ca-file %s: must hold certificates in PEM", o.caFile)
	}
	return config, nil
}
