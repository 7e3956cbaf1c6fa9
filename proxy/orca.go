package proxy

import (
	"bytes"
	"time"

	orca "weir/backend/load"
	"weir/balancer"
)

// Reports of load on answers (ORCA): a request says endpoint-load-metrics-format, and what the endpoint then says of
// its load in the head of the answer, or behind its body, is for weir alone. A report is one of this hop: what a client
// asks for itself does not get through, and it does not see the answer.

// asking says which of a route's pools report their load with answers.
type asking uint8

const (
	asksNone asking = iota
	asksSome
	asksAll
)

// askingOf is what the pools of variants come to.
func askingOf(variants []*variant) asking {
	n := 0
	for _, v := range variants {
		if v.asks {
			n++
		}
	}
	switch n {
	case 0:
		return asksNone
	case len(variants):
		return asksAll
	}
	return asksSome
}

const reportField = orca.RequestHeader + ": text\r\n"

// appendAsk has the endpoint report its load, where its pool wants to know. b[from:] are the lines of the client.
func (r *request) appendAsk(b []byte, from int) []byte {
	r.asked = r.route.asks == asksAll || r.variant != nil && r.variant.asks
	if !r.asked {
		return b
	}
	if r.fields.loadFormat {
		b = removeField(b, from, orca.RequestHeader)
	}
	return append(b, reportField...)
}

// unasked is a copy of a head for somebody whose load nobody wants to know; asked: it asks for it.
func unasked(head []byte, asked bool) []byte {
	if !asked {
		return head
	}
	return removeField(head, 0, orca.RequestHeader)
}

// takeReport hands the report in the head of an answer on to the endpoint. Whether the answer is one for the client
// is no matter.
func (r *request) takeReport(p *response) {
	if v := p.fields.load.in(r.buf.in); len(v) > 0 {
		r.reported(v, false)
	} else if v := p.fields.loadBinary.in(r.buf.in); len(v) > 0 {
		r.reported(v, true)
	}
}

// takeTrailingReport does the same with lines that stood behind the body.
func (r *request) takeTrailingReport(lines []byte) {
	if v := lookup(lines, orca.ResponseHeader); len(v) > 0 {
		r.reported(bytes.TrimSpace(v), false)
	} else if v := lookup(lines, orca.BinaryResponseHeader); len(v) > 0 {
		r.reported(bytes.TrimSpace(v), true)
	}
}

func (r *request) reported(value []byte, binary bool) {
	t := r.endpoint.Transport.(*transport)
	p := r.p.reports.Get().(*orca.Parser)
	defer r.p.reports.Put(p)
	parse := p.Parse
	if binary {
		parse = p.ParseBinary
	}
	report, err := parse(value)
	if err != nil {
		t.reports.fail(err.Error())
		return
	}
	t.reports.take()
	r.endpoint.Report(balancer.FromAnswer, report, time.Now())
}

// isReport reports whether name is that of a field that holds a report.
func isReport(name []byte) bool {
	switch len(name) {
	case len(orca.ResponseHeader):
		return equalFold(name, orca.ResponseHeader)
	case len(orca.BinaryResponseHeader):
		return equalFold(name, orca.BinaryResponseHeader)
	}
	return false
}
