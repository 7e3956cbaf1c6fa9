package proxy

import (
	"bytes"
	"strconv"
	"strings"
	"time"

	"weir/proxy/grpc"
)

// timeoutField is the name of timeouts.header that fields.read knows. Any other is looked for.
const timeoutField = "X-Request-Timeout"

// allowance is the time that a request has.
type allowance struct {
	total   time.Duration // more than 0 once the request is let in
	asked   time.Duration // by the client, where there is a form
	form    timeForm      // of the client's field; noTime: it sent none
	shorter bool          // than the route's, for the client's sake
	streams bool          // it is all that the client gives: the route's has ended with the head
}

// timeForm is how a client says a time.
type timeForm uint8

const (
	noTime    timeForm = iota
	plain              // seconds without a unit
	inSeconds          // with one, or in a greater unit
	inMillis
	asCall // grpc-timeout
)

// allot says how long the request may take: as the route does, or less where the client says so. A field that says
// nothing is as good as none, and goes on as it is, unless it is gRPC's. A client that has no time left needs no
// answer from an endpoint.
func (r *request) allot() kind {
	a := &r.time
	a.total = r.route.cfg.Timeouts.Total
	d, form, ok := r.timeAsked()
	switch {
	case ok:
		a.form, a.asked = form, d
		if d < a.total {
			a.total, a.shorter = d, true
		}
	case form == asCall:
		return badTimeout
	}
	if a.total <= 0 {
		return expired
	}
	r.c.total.Store(r.c.listener.clock.after(a.total))
	return success
}

// timeAsked is the time that the client gives the request.
func (r *request) timeAsked() (d time.Duration, form timeForm, ok bool) {
	if v := r.fields.grpcTimeout.in(r.raw); r.fields.grpcTimeout != (span{}) && r.isCall() {
		d, ok = grpc.ParseTimeout(v)
		return min(d, mostTime), asCall, ok
	}
	return parseTimeout(r.timeoutText())
}

// timeField is the name of the field that the client says its time with.
func (r *request) timeField() string {
	if r.time.form == asCall {
		return "grpc-timeout"
	}
	return r.route.cfg.Timeouts.Header
}

// unbind ends the request's time because its answer is a stream, which ends when it ends; a call of gRPC no later
// than its client says.
func (r *request) unbind() {
	a := &r.time
	if a.form != asCall {
		r.c.total.Store(0)
		return
	}
	a.total, a.streams = a.asked, true
	r.c.total.Store(r.c.listener.clock.after(max(a.total-time.Since(r.start), 1)))
}

// timeoutText is what the client says of its time; empty where it says nothing, or is not asked.
func (r *request) timeoutText() []byte {
	switch name := r.route.cfg.Timeouts.Header; name {
	case "":
		return nil
	case timeoutField:
		return r.fields.timeout.in(r.raw)
	default:
		return lookup(r.raw, name)
	}
}

// late is what a request ends with when its time is over. Where the client gave it less than the route does, that
// is no endpoint's fault.
func (r *request) late() kind {
	if r.time.shorter || r.time.streams {
		return expired
	}
	return totalTimeout
}

// timeOver reports whether the time is over that the client gave a call, as its endpoint sees it, which is told of whole
// milliseconds. Servers may end a stream then, by a reset.
func (r *request) timeOver() bool {
	return r.time.form == asCall && time.Since(r.start)+2*time.Millisecond >= r.time.asked
}

const (
	maxTimeText = 24
	mostTime    = 1 << 62 // that a client can give, in nanoseconds
)

// parseTimeout reads a number of seconds, or one with a unit: ms, s, m or h.
func parseTimeout(v []byte) (d time.Duration, form timeForm, ok bool) {
	if len(v) == 0 || len(v) > maxTimeText {
		return 0, noTime, false
	}
	number, unit := v, time.Second
	form = plain
	for _, u := range [...]struct {
		text string
		unit time.Duration
		form timeForm
	}{{"ms", time.Millisecond, inMillis}, {"s", time.Second, inSeconds}, {"m", time.Minute, inSeconds}, {"h", time.Hour, inSeconds}} {
		if n := len(v) - len(u.text); n > 0 && string(v[n:]) == u.text {
			number, unit, form = v[:n], u.unit, u.form
			break
		}
	}
	digits := bytes.TrimPrefix(number, []byte("-"))
	if len(digits) == 0 || digits[0] == '.' || len(bytes.Trim(digits, "0123456789.")) > 0 {
		return 0, noTime, false
	}
	f, err := strconv.ParseFloat(unsafeString(number), 64)
	if err != nil {
		return 0, noTime, false
	}
	return time.Duration(min(max(f*float64(unit), -1), mostTime)), form, true
}

// appendTimeout appends the field that tells the endpoint what time is left, instead of the client's among the
// lines b[from:].
func (r *request) appendTimeout(b []byte, from int) []byte {
	name := r.timeField()
	b = removeField(b, from, strings.ToLower(name))
	b = append(append(b, name...), ": "...)
	at := len(b)
	b = r.appendTimeLeft(b)
	r.in.timeLeft = append(r.in.timeLeft[:0], b[at:]...)
	return append(b, "\r\n"...)
}

// appendTimeLeft appends the time that is left, in whole milliseconds and at least one: when there are none, the
// watch ends the request.
func (r *request) appendTimeLeft(b []byte) []byte {
	spent := time.Since(r.start)
	if r.time.form == asCall { // all of the client's, since the route's ends with the head
		return grpc.AppendTimeout(b, r.time.asked-spent, r.time.asked)
	}
	ms := max(int64((r.time.total-spent)/time.Millisecond), 1)
	if r.time.form == inMillis {
		return append(strconv.AppendInt(b, ms, 10), "ms"...)
	}
	b = append(strconv.AppendInt(b, ms/1000, 10), '.')
	b = append(b, byte('0'+ms/100%10), byte('0'+ms/10%10), byte('0'+ms%10))
	if r.time.form == inSeconds {
		b = append(b, 's')
	}
	return b
}

// retime brings the field in the head that was built before up to date, for an attempt that begins now. What is
// left only gets less, so that it fits; spaces around a value do not count.
func (r *request) retime() {
	head := r.buf.out
	if r.up.held != nil {
		head = r.up.buf[:r.up.to]
	}
	v := r.timeTold(head[:headLen(head, 0)])
	if v == nil {
		return
	}
	left := r.appendTimeLeft(r.in.timeLeft[:0])
	for n := copy(v, left); n < len(v); n++ {
		v[n] = ' '
	}
	r.in.timeLeft = left
}

// timeTold is what a head for the endpoint says of the time that is left; nil where it does not, or says what
// headers.request has put in its place, which stays as it is.
func (r *request) timeTold(head []byte) []byte {
	if r.time.form == noTime {
		return nil
	}
	v := lookup(head, r.timeField())
	if !bytes.Equal(v, r.in.timeLeft) || len(v) == 0 {
		return nil
	}
	return v
}
