package admin

import (
	"errors"
	"time"

	"weir/config"
	"weir/internal/certificate"
)

// Check reads the files that the configuration of this listener names, as a start would. The error is
// of type config.Faults.
func Check(cfg *config.Config) error {
	var faults config.Faults
	if _, err := ReadTokens(cfg.Admin.TokenFile); err != nil {
		errors.As(err, &faults)
	}
	if pair := cfg.Admin.TLS; pair != nil {
		if _, err := certificate.Load(pair.Cert, pair.Key, time.Now()); err != nil {
			faults = append(faults, config.Fault{File: cfg.File, Key: "admin.tls", Message: err.Error()})
		}
	}
	if len(faults) == 0 {
		return nil
	}
	return faults
}
