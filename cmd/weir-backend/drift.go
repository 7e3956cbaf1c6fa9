package main

import (
	"fmt"
	"os"
	"time"

	"weir/backend"
)

// driftSetting is how drift of predictions is watched.
type driftSetting struct {
	Watch *bool `yaml:"watch"`
	// Features is how many of a model are watched, 0 for none.
	Features *int     `yaml:"features"`
	Names    []string `yaml:"feature_names"`

	Window     time.Duration `yaml:"window"`
	First      int           `yaml:"first"`
	Least      int           `yaml:"least"`
	Alpha      float64       `yaml:"alpha"`
	PSI        float64       `yaml:"psi"`
	KS         float64       `yaml:"ks"`
	References string        `yaml:"references"`
	Control    *bool         `yaml:"control"`
}

func defaultDrift() driftSetting {
	on, off, features := true, false, backend.DefaultDriftFeatures
	return driftSetting{
		Watch: &on, Features: &features, Window: backend.DefaultDriftWindow, First: backend.DefaultDriftFirst, Least: backend.DefaultDriftLeast,
		Alpha: backend.DefaultDriftAlpha, PSI: backend.DefaultDriftFloor, KS: backend.DefaultDriftFloor, Control: &off,
	}
}

// fill sets what is not set yet.
func (d *driftSetting) fill(from driftSetting) {
	if d.Watch == nil {
		d.Watch = from.Watch
	}
	if d.Features == nil {
		d.Features = from.Features
	}
	if d.Names == nil {
		d.Names = from.Names
	}
	if d.Control == nil {
		d.Control = from.Control
	}
	fillOne(&d.Window, from.Window)
	fillOne(&d.First, from.First)
	fillOne(&d.Least, from.Least)
	fillOne(&d.Alpha, from.Alpha)
	fillOne(&d.PSI, from.PSI)
	fillOne(&d.KS, from.KS)
	fillOne(&d.References, from.References)
}

// backend is what the server wants to know of it, but for the references.
func (d *driftSetting) backend() backend.Drifting {
	features := *d.Features
	if features == 0 {
		features = -1 // none: in Drifting 0 is the default
	}
	return backend.Drifting{
		Off: !*d.Watch, Features: features, FeatureNames: d.Names, Window: d.Window, First: d.First, Least: d.Least, Alpha: d.Alpha, PSI: d.PSI, KS: d.KS, Control: *d.Control,
	}
}

// open is backend with the references of their file.
func (d *driftSetting) open() (backend.Drifting, error) {
	b := d.backend()
	if d.References == "" {
		return b, nil
	}
	raw, err := os.ReadFile(d.References)
	if err != nil {
		return b, fmt.Errorf("cannot read drift.references: %w", err)
	}
	if b.References, err = backend.ParseDriftReferences(raw); err != nil {
		return b, fmt.Errorf("%s: %w", d.References, err)
	}
	return b, nil
}
