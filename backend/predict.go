package backend

import (
	"context"
	"errors"
	"math"
	"strconv"
	"time"

	"github.com/valyala/fasthttp"
	"go.uber.org/zap"

	"weir/backend/tensor"
)

// versionHeader and modelHeader tell on an inference's response which model answered.
const (
	versionHeader = "X-Model-Version"
	modelHeader   = "X-Model-Name"
)

// predict answers the guide's POST /predict {"features": [...]}, one row for the first model.
func (s *Server) predict(ctx *fasthttp.RequestCtx) *fault {
	begun := s.options.Now()
	m, f := s.hold((*repository).first)
	if f != nil {
		s.unnamed.count(f)
		return f
	}
	defer m.release()
	nameModel(ctx, m)
	return s.account(m, func() *fault {
		raw, f := body(ctx)
		if f != nil {
			return f
		}
		inputs, err := m.parseFeatures(raw)
		if err != nil {
			return badInput(m, err)
		}
		p, leave := s.patience(ctx)
		defer leave()
		outputs, f := s.run(p, m, inputs)
		if f != nil {
			return f
		}
		if m.reading.rows(outputs) < 1 {
			return &fault{status: fasthttp.StatusInternalServerError, kind: faultModel, message: "the model gave no prediction for its input"}
		}
		var read prediction
		m.reading.row(outputs, 0, &read)
		latency := s.options.Now().Sub(begun)
		answerBody, err := m.appendPrediction(nil, &read, latency)
		if err != nil {
			return &fault{status: fasthttp.StatusInternalServerError, kind: faultModel, message: err.Error()}
		}
		s.succeeded(m, inputs, outputs, begun.Add(latency), latency)
		ctx.SetContentType("application/json")
		ctx.Response.SetBodyRaw(answerBody)
		s.logPrediction(ctx, m, &read, latency)
		return nil
	})
}

// nameModel tells in the response's head which model answers.
func nameModel(ctx *fasthttp.RequestCtx, m *Model) {
	ctx.Response.Header.Set(modelHeader, m.Name)
	ctx.Response.Header.Set(versionHeader, m.Version)
}

// account counts a request for the model m around what answers it, whatever the outcome.
func (s *Server) account(m *Model, do func() *fault) (f *fault) {
	s.meter.begin()
	failed := true // when do panics
	defer func() {
		if failed {
			m.metrics.failure.Inc()
		}
		s.meter.end(failed)
	}()
	f = do()
	failed = f != nil && f.server()
	if f != nil {
		m.metrics.errors.count(f)
	}
	if f != nil && f.kind == faultModel {
		s.log.Error("the model failed on a valid request", zap.String("model", m.Name),
			zap.String("model_version", m.Version), zap.String("error", f.message))
	}
	return f
}

// run runs the model when it is the request's turn.
func (s *Server) run(p patience, m *Model, inputs []tensor.Tensor) ([]tensor.Tensor, *fault) {
	outputs, err := m.line.do(p.ctx, inputs, p.priority)
	switch {
	case err == nil:
		return outputs, nil
	case errors.Is(err, errBusy):
		return nil, m.tryLater(faultOverload, "too many requests wait already; try again soon")
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, errLate) && !s.timeIsLeft(p.ctx):
		return nil, &fault{status: fasthttp.StatusGatewayTimeout, kind: faultDeadline, message: "the time that the client gave the request is over"}
	case errors.Is(err, errLate):
		return nil, m.tryLater(faultDeadline, "the model would not answer within the time that the client gives the request")
	case errors.Is(err, context.Canceled):
		return nil, &fault{status: statusCanceled, kind: faultCanceled, message: "the request was given up by its client"}
	case errors.Is(err, errUnfinished):
		return nil, &fault{status: fasthttp.StatusInternalServerError, kind: faultPanic, message: "internal error"}
	}
	// The request fits what the model says it takes, so the failure is the model's.
	return nil, &fault{status: fasthttp.StatusInternalServerError, kind: faultModel, message: "the model failed: " + err.Error()}
}

// timeIsLeft says whether the deadline is still to come.
func (s *Server) timeIsLeft(ctx context.Context) bool {
	deadline, ok := ctx.Deadline()
	return !ok || s.options.Now().Before(deadline)
}

// tryLater is a fault of a server that has too much to do. It says when that may be over.
func (m *Model) tryLater(kind faultKind, message string) *fault {
	return &fault{status: fasthttp.StatusServiceUnavailable, kind: kind, message: message, retry: m.line.backlog()}
}

// succeeded counts a success and what was predicted.
func (s *Server) succeeded(m *Model, inputs, outputs []tensor.Tensor, at time.Time, latency time.Duration) {
	m.lastPrediction.Store(at.UnixNano())
	m.metrics.success.Inc()
	m.metrics.latency.Observe(latency.Seconds())
	part := m.watch.enter()
	defer m.watch.leave(part)
	m.watch.addFeatures(part, inputs)
	var p prediction
	for i := range m.reading.rows(outputs) {
		m.reading.row(outputs, i, &p)
		if score, ok := p.confidence(m.reading.kind); ok {
			m.metrics.score.Observe(score)
			m.metrics.distribution.Observe(score)
			m.watch.addScore(part, score)
		}
	}
}

// parseFeatures reads {"features": [...]} as one row of the model's only input.
func (m *Model) parseFeatures(raw []byte) ([]tensor.Tensor, error) {
	if m.reading.kind == otherModel {
		return nil, errors.New("the model gives neither a class nor a value, so /predict cannot ask it; use POST /v2/models/" + m.Name + "/infer")
	}
	if len(m.signature.Inputs) != 1 {
		return nil, errors.New("the model has several inputs, which /predict cannot give it; use POST /v2/models/" + m.Name + "/infer")
	}
	spec := m.signature.Inputs[0]
	s := &scanner{data: raw}
	room := min(rowSize(&m.signature), len(raw)/2) * spec.Type.Size()
	row := tensor.Tensor{Name: spec.Name, Type: spec.Type, Data: make([]byte, 0, room)}
	var seen keySet
	err := s.object(func(key []byte) error {
		if string(key) != "features" {
			return s.skip()
		}
		if err := seen.add(keyData, "features"); err != nil {
			return err
		}
		count, err := s.row(&row)
		if err == nil {
			row.Shape, err = rowShape(spec.Shape, count)
		}
		return within("features", err)
	})
	if err == nil {
		err = s.end()
	}
	if err == nil && seen == 0 {
		err = errors.New(`no "features"; want {"features": [...]}`)
	}
	if err != nil {
		return nil, err
	}
	return m.arrange([]tensor.Tensor{row})
}

// row reads a flat array of any length into t and returns its length.
func (s *scanner) row(t *tensor.Tensor) (int64, error) {
	e := elements{s: s, t: t, n: math.MaxInt64}
	if t.Type == tensor.Bytes {
		e.n = maxStrings
	}
	err := s.array(func(int) error {
		if c := s.peek(); c == '[' || c == '{' {
			return s.wanted("one row: a flat array of values")
		}
		return e.next()
	})
	return e.read, err
}

// rowShape is the model's shape for one row of count numbers.
func rowShape(want []int64, count int64) ([]int64, error) {
	if len(want) == 0 {
		return []int64{1, count}, nil
	}
	shape := append([]int64(nil), want...)
	free, product := -1, int64(1)
	for i, d := range shape {
		switch {
		case d != -1:
			product *= d
		case i == 0 && len(shape) > 1:
			shape[i] = 1 // the batch
		case free >= 0:
			return nil, errors.New("the model leaves two dimensions open, so a row's shape is not known; use the V2 API")
		default:
			free = i
		}
	}
	if free >= 0 && product > 0 && count > 0 && count%product == 0 {
		shape[free] = count / product
		product = count
	}
	if product != count || count == 0 {
		return nil, errors.New(strconv.FormatInt(count, 10) + " values, but a row has " + strconv.FormatInt(product, 10))
	}
	return shape, nil
}

// appendPrediction appends the guide's answer.
func (m *Model) appendPrediction(dst []byte, p *prediction, latency time.Duration) ([]byte, error) {
	dst = append(dst, `{"prediction":`...)
	switch {
	case p.isText:
		dst = appendString(dst, p.text)
	case math.IsNaN(p.number) || math.IsInf(p.number, 0):
		return nil, errors.New("the model predicted " + strconv.FormatFloat(p.number, 'g', -1, 64) + ", which JSON cannot carry")
	case m.reading.kind == classifier:
		dst = strconv.AppendFloat(dst, p.number, 'f', -1, 64)
	default:
		dst = strconv.AppendFloat(dst, p.number, 'g', -1, m.reading.bits)
	}
	if p.name != "" {
		dst = appendString(append(dst, `,"label":`...), p.name)
	}
	if finite := !hasNonFinite(p.scores); len(p.scores) > 0 && finite {
		if p.probabilities {
			dst = append(dst, `,"probabilities":[`...)
		} else {
			dst = append(dst, `,"scores":[`...)
		}
		for i, v := range p.scores {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = strconv.AppendFloat(dst, v, 'g', -1, m.reading.bits)
		}
		dst = append(dst, ']')
	}
	dst = appendString(append(dst, `,"model":`...), m.Name)
	dst = appendString(append(dst, `,"model_version":`...), m.Version)
	dst = append(dst, `,"latency_ms":`...)
	dst = strconv.AppendFloat(dst, float64(latency.Microseconds())/1000, 'f', -1, 64)
	return append(dst, '}'), nil
}

func hasNonFinite(values []float64) bool {
	for _, v := range values {
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return true
		}
	}
	return false
}

// logPrediction writes the guide's line about a prediction, at level debug. The user's id is
// logged as a hash: enough to follow one user, not to know who it is.
func (s *Server) logPrediction(ctx *fasthttp.RequestCtx, m *Model, p *prediction, latency time.Duration) {
	entry := s.log.Check(zap.DebugLevel, "prediction completed")
	if entry == nil {
		return
	}
	fields := []zap.Field{
		zap.ByteString("request_id", ctx.Request.Header.Peek("X-Request-ID")),
		zap.String("model", m.Name),
		zap.String("model_version", m.Version),
		zap.Float64("latency_ms", float64(latency.Microseconds())/1000),
	}
	if user := ctx.Request.Header.Peek("X-User-ID"); len(user) > 0 {
		fields = append(fields, zap.String("user_id", hashed(user)))
	}
	if p.isText {
		fields = append(fields, zap.String("prediction", p.text))
	} else {
		fields = append(fields, zap.Float64("prediction", p.number))
	}
	entry.Write(fields...)
}
