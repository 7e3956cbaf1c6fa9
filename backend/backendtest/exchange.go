package backendtest

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

const defaultChunk = 32 << 10

// exchange is one request and its answer.
type exchange struct {
	*conn
	req      *Request
	body     *body
	b        *Behaviour
	probe    bool
	recorded bool
}

// run reads the request and answers it. nil means that the connection is in order: it stands
// at the beginning of the next request.
func (x *exchange) run() error {
	defer x.record()
	switch {
	case x.b.Fault == FaultHangReading:
		x.record()
		return x.wait(-1, false)
	case x.b.Echo:
		return x.echo()
	case x.b.Early && x.req.hasBody():
		return x.early()
	}
	if x.req.expects() {
		io.WriteString(x.bw, "HTTP/1.1 100 Continue\r\n\r\n")
		if err := x.bw.Flush(); err != nil {
			return err
		}
	}
	if err := x.readBody(-1); err != nil {
		return err
	}
	x.record()
	return x.answer(true)
}

func (x *exchange) early() error {
	if err := x.readBody(x.b.EarlyAfter); err != nil {
		return err
	}
	x.record()
	if err := x.answer(false); err != nil {
		return err
	}
	if x.b.CloseAfterResponse {
		return nil
	}
	if x.b.AnnounceClose {
		x.linger()
		return nil
	}
	return x.readBody(-1)
}

func (x *exchange) record() {
	if !x.recorded {
		x.recorded = true
		x.server.record(x.req.seal(), x.probe)
	}
}

// readBody reads on until limit bytes of the body have arrived; -1 is all of them.
func (x *exchange) readBody(limit int64) error {
	step, pace := 64<<10, x.b.ReadPace
	if pace.Every > 0 {
		step = max(pace.Bytes, 1)
	}
	buf := make([]byte, step)
	for limit < 0 || x.req.BodyBytes < limit {
		part := buf
		if limit >= 0 {
			part = buf[:min(int64(step), limit-x.req.BodyBytes)]
		}
		if _, err := x.body.Read(part); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		if pace.Every > 0 {
			if err := x.wait(pace.Every, false); err != nil {
				return err
			}
		}
	}
	return nil
}

// answer sends the response. watch says whether the request was read to its end, so that the
// client's leaving can be noticed at once.
func (x *exchange) answer(watch bool) error {
	latency := x.b.Latency
	if x.b.LatencyFunc != nil {
		latency = x.b.LatencyFunc()
	}
	if err := x.wait(max(latency, 0), watch); err != nil {
		return err
	}
	switch x.b.Fault {
	case FaultCloseBeforeHead, FaultResetBeforeHead, FaultHangBeforeHead:
		return x.fail(watch)
	}
	if x.b.Raw != nil {
		x.bw.Write(x.b.Raw)
	} else if err := x.respond(watch); err != nil {
		return err
	}
	x.bw.Write(x.b.Extra)
	return x.bw.Flush()
}

// fail lets the Fault happen.
func (x *exchange) fail(watch bool) error {
	if err := x.bw.Flush(); err != nil {
		return err
	}
	switch x.b.Fault {
	case FaultResetBeforeHead, FaultResetMidBody:
		reset(x.nc)
	case FaultHangBeforeHead, FaultHangMidBody:
		return x.wait(-1, watch)
	}
	return errFault
}

func (x *exchange) respond(watch bool) error {
	for _, i := range x.b.Interim {
		writeHead(x.bw, i.Status, i.Header)
		if err := x.bw.Flush(); err != nil {
			return err
		}
	}
	status := x.b.Status
	if status == 0 {
		status = http.StatusOK
	}
	if x.server.happens(x.b.ErrorRate) {
		status = x.b.ErrorStatus
		if status == 0 {
			status = http.StatusInternalServerError
		}
	}
	var src io.Reader = Pattern(x.b.BodySize)
	size := x.b.BodySize
	if x.b.Body != nil {
		src, size = strings.NewReader(string(x.b.Body)), int64(len(x.b.Body))
	}
	bodiless := status < 200 || status == http.StatusNoContent || status == http.StatusNotModified
	writeHead(x.bw, status, x.header(size, bodiless))
	if bodiless || x.req.Method == http.MethodHead {
		return nil
	}
	return x.sendBody(src, size, watch)
}

// header adds to the Behaviour's fields those that it leaves to the server.
func (x *exchange) header(size int64, bodiless bool) []Field {
	h := append([]Field(nil), x.b.Header...)
	has := func(name string) bool {
		for _, f := range h {
			if strings.EqualFold(f.Name, name) {
				return true
			}
		}
		return false
	}
	if v := loadReport(x.b.Load, x.req.Get("endpoint-load-metrics-format")); v != "" {
		h = append(h, Field{"endpoint-load-metrics", v})
	}
	switch {
	case has("Content-Length") || has("Transfer-Encoding") || bodiless:
	case x.b.Chunked:
		h = append(h, Field{"Transfer-Encoding", "chunked"})
	case !x.b.UntilClose:
		h = append(h, Field{"Content-Length", strconv.FormatInt(size, 10)})
	}
	if x.b.AnnounceClose && !has("Connection") {
		h = append(h, Field{"Connection", "close"})
	}
	return h
}

func (x *exchange) sendBody(src io.Reader, size int64, watch bool) error {
	midway := x.b.Fault == FaultCloseMidBody || x.b.Fault == FaultResetMidBody || x.b.Fault == FaultHangMidBody
	if midway {
		src = io.LimitReader(src, x.b.FaultAfter)
	}
	step, pace := defaultChunk, x.b.WritePace
	if x.b.Chunked && x.b.ChunkSize > 0 {
		step = x.b.ChunkSize
	}
	if pace.Every > 0 {
		step = max(pace.Bytes, 1)
	}
	buf := make([]byte, min(int64(step), max(size, 1)))
	for {
		n, err := io.ReadFull(src, buf)
		if n > 0 {
			if err := x.sendPart(buf[:n], pace.Every, watch); err != nil {
				return err
			}
		}
		if err != nil {
			break // the end of src, the only error it has
		}
	}
	if midway {
		return x.fail(watch)
	}
	if x.b.Chunked {
		io.WriteString(x.bw, "0\r\n")
		writeFields(x.bw, x.b.Trailers)
	}
	return nil
}

func (x *exchange) sendPart(p []byte, every time.Duration, watch bool) error {
	if x.b.Chunked {
		fmt.Fprintf(x.bw, "%x\r\n", len(p))
	}
	_, err := x.bw.Write(p)
	if x.b.Chunked {
		_, err = io.WriteString(x.bw, "\r\n")
	}
	if err != nil || every == 0 {
		return err
	}
	if err := x.bw.Flush(); err != nil {
		return err
	}
	return x.wait(every, watch)
}

// echo streams the request's body back while it arrives.
func (x *exchange) echo() error {
	if x.req.expects() {
		io.WriteString(x.bw, "HTTP/1.1 100 Continue\r\n\r\n")
	}
	writeHead(x.bw, http.StatusOK, append(append([]Field(nil), x.b.Header...), Field{"Transfer-Encoding", "chunked"}))
	buf := make([]byte, defaultChunk)
	for {
		if err := x.bw.Flush(); err != nil {
			return err
		}
		n, err := x.body.Read(buf)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		if n > 0 {
			fmt.Fprintf(x.bw, "%x\r\n%s\r\n", n, buf[:n])
		}
	}
	x.record()
	io.WriteString(x.bw, "0\r\n\r\n")
	return x.bw.Flush()
}
