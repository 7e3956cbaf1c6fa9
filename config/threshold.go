package config

import "time"

// PrometheusAnalysis is a query whose results have to stay within Min and Max, of which at least one is set.
type PrometheusAnalysis struct {
	Name      string
	URL       string
	Query     string
	Min, Max  *float64 // nil: no bound
	InARow    int      // looks beyond a bound that fail
	Timeout   time.Duration
	TokenFile string // "": no authentication
}

// AgreementAnalysis bounds the share of answers that agree.
type AgreementAnalysis struct {
	Min         float64 // 0 to 1
	MinCompared int     // before it is judged
}

// DriftAnalysis bounds the distances of the scores of both versions. 0 is no bound.
type DriftAnalysis struct {
	MaxPSI, MaxKS float64
	MinScores     int    // of each version, before it is judged
	Model         string // "": the only one that there is
	Path          string
	InARow        int
}

// GPUAnalysis bounds what the busiest endpoint reports, 0 to 1. 0 is no bound.
type GPUAnalysis struct {
	MaxUtilization, MaxMemory float64
	InARow                    int
	MaxAge                    time.Duration // of a report that counts
}

// ExperimentAnalysis asks that the route's experiment finds the new version no worse.
type ExperimentAnalysis struct {
	Margin float64 // of the old version's mean, 0 to 1, that the primary outcome may be worse by
}

// DefaultExperimentAnalysis allows a fiftieth.
func DefaultExperimentAnalysis() ExperimentAnalysis { return ExperimentAnalysis{Margin: 0.02} }

// DefaultPrometheusAnalysis has neither bounds nor what it asks for, which have no default.
func DefaultPrometheusAnalysis() PrometheusAnalysis {
	return PrometheusAnalysis{InARow: 3, Timeout: 5 * time.Second}
}

// DefaultAgreementAnalysis wants 100 pairs.
func DefaultAgreementAnalysis() AgreementAnalysis { return AgreementAnalysis{MinCompared: 100} }

// DefaultDriftAnalysis asks weir-backend.
func DefaultDriftAnalysis() DriftAnalysis {
	return DriftAnalysis{MinScores: 500, Path: "/drift", InARow: 3}
}

// DefaultGPUAnalysis wants reports of the last 30 s.
func DefaultGPUAnalysis() GPUAnalysis { return GPUAnalysis{InARow: 3, MaxAge: 30 * time.Second} }
