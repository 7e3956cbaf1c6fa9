// Package telemetry holds what every program of weir says about itself: the program log and the
// access log, both one JSON object a line, under the field names of the guide's log format.
package telemetry

import (
	"fmt"
	"io"
	"path"
	"strings"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// timestampLayout is RFC 3339 in UTC to the millisecond, for the program log and the access log alike.
const timestampLayout = "2006-01-02T15:04:05.000Z"

// A message that repeats is written sampleFirst times a second, then every sampleThereafter-th time:
// a fault that hits each request must not turn the log into the bottleneck.
const (
	sampleFirst      = 100
	sampleThereafter = 100
)

// NewLogger returns a logger that writes JSON lines to w with the keys timestamp, level, logger,
// message, module, function, line and, where there is one, exception (see [Exception]). The level is
// one of debug, info, warn and error; it can be changed later through the returned AtomicLevel.
// Lines left out because their message repeats too fast are counted in the key suppressed of the
// next line that is written.
func NewLogger(level string, w io.Writer) (*zap.Logger, zap.AtomicLevel, error) {
	parsed, err := ParseLevel(level)
	if err != nil {
		return nil, zap.AtomicLevel{}, err
	}
	atom := zap.NewAtomicLevelAt(parsed)
	encoder := zapcore.NewJSONEncoder(zapcore.EncoderConfig{
		TimeKey:        "timestamp",
		LevelKey:       "level",
		NameKey:        "logger",
		MessageKey:     "message",
		LineEnding:     zapcore.DefaultLineEnding,
		EncodeLevel:    zapcore.LowercaseLevelEncoder,
		EncodeTime:     encodeTime,
		EncodeDuration: zapcore.StringDurationEncoder,
	})
	suppressed := new(atomic.Int64)
	core := guideCore{
		Core:       zapcore.NewCore(encoder, zapcore.Lock(zapcore.AddSync(w)), atom),
		suppressed: suppressed,
	}
	sampled := zapcore.NewSamplerWithOptions(core, time.Second, sampleFirst, sampleThereafter,
		zapcore.SamplerHook(func(_ zapcore.Entry, d zapcore.SamplingDecision) {
			if d&zapcore.LogDropped != 0 {
				suppressed.Add(1)
			}
		}))
	return zap.New(sampled, zap.AddCaller()).Named("weir"), atom, nil
}

// ParseLevel reads the value of log.level.
func ParseLevel(level string) (zapcore.Level, error) {
	switch level {
	case "debug":
		return zapcore.DebugLevel, nil
	case "info":
		return zapcore.InfoLevel, nil
	case "warn":
		return zapcore.WarnLevel, nil
	case "error":
		return zapcore.ErrorLevel, nil
	}
	return 0, fmt.Errorf("unknown log level %q (have debug, info, warn, error)", level)
}

func encodeTime(t time.Time, enc zapcore.PrimitiveArrayEncoder) {
	enc.AppendString(t.UTC().Format(timestampLayout))
}

// guideCore adds the caller as the three keys the guide's log format has (zap would join file and
// line in one), and the count of lines the sampler left out.
type guideCore struct {
	zapcore.Core
	suppressed *atomic.Int64
}

func (c guideCore) With(fields []zapcore.Field) zapcore.Core {
	return guideCore{Core: c.Core.With(fields), suppressed: c.suppressed}
}

func (c guideCore) Check(e zapcore.Entry, ce *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if c.Enabled(e.Level) {
		return ce.AddCore(e, c)
	}
	return ce
}

func (c guideCore) Write(e zapcore.Entry, fields []zapcore.Field) error {
	all := make([]zapcore.Field, 0, len(fields)+4)
	if e.Caller.Defined {
		module, function := splitFunction(e.Caller.Function)
		all = append(all, zap.String("module", module), zap.String("function", function), zap.Int("line", e.Caller.Line))
	}
	all = append(all, fields...)
	if n := c.suppressed.Swap(0); n > 0 {
		all = append(all, zap.Int64("suppressed", n))
	}
	return c.Core.Write(e, all)
}

// splitFunction cuts a runtime function name such as weir/proxy/admin.(*Server).reload into the
// package's path and the name in it.
func splitFunction(full string) (module, function string) {
	base := path.Base(full)
	dot := strings.IndexByte(base, '.')
	if dot < 0 {
		return "", full
	}
	cut := len(full) - len(base) + dot
	return full[:cut], full[cut+1:]
}

// Exception is the field "exception" of the guide's log format: the error's Go type and its message.
// A nil error gives a field that is left out.
func Exception(err error) zap.Field {
	if err == nil {
		return zap.Skip()
	}
	return zap.Object("exception", exception{kind: fmt.Sprintf("%T", err), message: err.Error()})
}

// Panic is the field "exception" for a recovered panic value, with the goroutine's stack
// (runtime/debug.Stack) as traceback.
func Panic(value any, stack []byte) zap.Field {
	return zap.Object("exception", exception{kind: "panic", message: fmt.Sprint(value), traceback: string(stack)})
}

type exception struct{ kind, message, traceback string }

// MarshalLogObject implements zapcore.ObjectMarshaler.
func (e exception) MarshalLogObject(enc zapcore.ObjectEncoder) error {
	enc.AddString("type", e.kind)
	enc.AddString("message", e.message)
	if e.traceback != "" {
		enc.AddString("traceback", e.traceback)
	}
	return nil
}
