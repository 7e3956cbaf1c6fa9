package process

import "time"

// Usage is what a program and its descendants have used since they started.
type Usage struct {
	CPU      time.Duration // by the scheduler's own account
	Switches uint64        // context switches, voluntary or not
	Resident int64         // bytes of memory now
}

// Sub returns what was used between o and u; Resident is u's.
func (u Usage) Sub(o Usage) Usage {
	return Usage{CPU: u.CPU - o.CPU, Switches: u.Switches - o.Switches, Resident: u.Resident}
}
