package grpc

import (
	"encoding/binary"
	"errors"
	"io"

	"google.golang.org/protobuf/encoding/protowire"
)

// service is that of the Open Inference Protocol V2.
const service = "/inference.GRPCInferenceService/"

// NamesModel reports whether the first message of a call to path says which model it is for (ModelReader).
func NamesModel(path []byte) bool {
	if len(path) < len(service) || string(path[:len(service)]) != service {
		return false
	}
	switch string(path[len(service):]) {
	case "ModelInfer", "ModelStreamInfer", "ModelMetadata", "ModelReady", "ModelConfig", "ModelStatistics":
		return true
	}
	return false
}

// The fields of these messages that name a model.
const (
	nameField    protowire.Number = 1
	versionField protowire.Number = 2
)

// ModelReader reads the model and its version out of the beginning of a call's body. The zero value is ready for the
// first of it.
type ModelReader struct {
	at            int // of the message; all before it was read
	name, version part
}

// part is a part of a message; to is 0 where there is none.
type part struct{ from, to int }

func (p part) in(message []byte) []byte {
	if p.to == 0 {
		return nil
	}
	return message[p.from:p.to]
}

// Read reads on in body, which begins with what it was given before: no field is read twice, in however many pieces
// the body comes. name and version are nil where it does not say; more is set where they may still come in what
// follows: all whose serializers write fields in their order, as all known ones do, have them at the front. A message
// that is compressed says nothing, and of one with groups, which these messages do not have, what follows the first.
func (r *ModelReader) Read(body []byte) (name, version []byte, more bool) {
	const prefix = 5
	if len(body) < prefix {
		return nil, nil, true
	}
	size := int64(binary.BigEndian.Uint32(body[1:]))
	if body[0] != 0 {
		return nil, nil, false
	}
	message, whole := body[prefix:], int64(len(body)-prefix) >= size
	if whole {
		message = message[:size]
	}
	more = r.fields(message) && !whole
	return r.name.in(message), r.version.in(message), more
}

// fields reads the fields of message that are there; more: what follows may say something, too.
func (r *ModelReader) fields(message []byte) (more bool) {
	for r.at < len(message) {
		rest := message[r.at:]
		field, kind, n := protowire.ConsumeTag(rest)
		switch {
		case n < 0:
			return cut(n)
		case field > versionField && r.name.to > 0, kind == protowire.StartGroupType:
			return false
		}
		m := protowire.ConsumeFieldValue(field, kind, rest[n:])
		if m < 0 {
			return cut(m)
		}
		end := r.at + n + m
		if kind == protowire.BytesType && field <= versionField {
			v, _ := protowire.ConsumeBytes(rest[n:])
			if p := (part{end - len(v), end}); field == nameField {
				r.name = p
			} else {
				r.version = p
			}
		}
		r.at = end
	}
	return true
}

// cut reports whether what protowire has returned means that there are bytes missing.
func cut(n int) bool { return errors.Is(protowire.ParseError(n), io.ErrUnexpectedEOF) }
