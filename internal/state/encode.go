package state

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// envelope is what is in the file. The checksum is over the bytes of Document as they stand there: it
// tells a file that was torn or edited from one that Save wrote.
type envelope struct {
	Format   int             `json:"weir_state"`
	SHA256   string          `json:"sha256"`
	Document json.RawMessage `json:"document"`
}

// encode returns what decode reads, on one line. It changes nothing of d.
func encode(d *Document) ([]byte, error) {
	kept := *d
	kept.Format = Format
	if excess := len(kept.History) - MaxHistory; excess > 0 {
		kept.History = kept.History[excess:]
	}
	if err := validate(&kept); err != nil {
		return nil, err
	}
	var body bytes.Buffer
	e := json.NewEncoder(&body)
	e.SetEscapeHTML(false) // people read the reasons
	if err := e.Encode(&kept); err != nil {
		return nil, err
	}
	return seal(bytes.TrimSuffix(body.Bytes(), []byte("\n"))), nil
}

// seal puts the envelope around a Document in JSON.
func seal(document []byte) []byte {
	return fmt.Appendf(nil, `{"weir_state":%d,"sha256":"%x","document":%s}`+"\n", Format, sha256.Sum256(document), document)
}

// decode returns the Document in data, which validate accepts, or what is wrong with data.
func decode(data []byte) (*Document, error) {
	if len(bytes.TrimSpace(data)) == 0 {
		return nil, errors.New("is empty")
	}
	// The formats come first: what else a newer one holds is not known.
	var outer struct {
		Format *int `json:"weir_state"`
	}
	if err := json.Unmarshal(data, &outer); err != nil {
		return nil, fmt.Errorf("is torn or none of weir's: %w", err)
	}
	if outer.Format == nil {
		return nil, errors.New(`is none of weir's: it has no "weir_state"`)
	}
	if err := checkFormat(*outer.Format); err != nil {
		return nil, err
	}
	var e envelope
	if err := unmarshalStrictly(data, &e); err != nil {
		return nil, fmt.Errorf("is not what weir writes: %w", err)
	}
	sum := sha256.Sum256(e.Document)
	if e.SHA256 != hex.EncodeToString(sum[:]) {
		return nil, errors.New("is torn or was edited: its checksum is another")
	}
	var inner struct {
		Format int `json:"format"`
	}
	if err := json.Unmarshal(e.Document, &inner); err != nil {
		return nil, fmt.Errorf("is not what weir writes: %w", err)
	}
	if err := checkFormat(inner.Format); err != nil {
		return nil, err
	}
	var d Document
	if err := unmarshalStrictly(e.Document, &d); err != nil {
		return nil, fmt.Errorf("is not what weir writes: %w", err)
	}
	d.Format = Format
	if err := validate(&d); err != nil {
		return nil, fmt.Errorf("holds what cannot be: %w", err)
	}
	return &d, nil
}

func checkFormat(format int) error {
	switch {
	case format > Format:
		return fmt.Errorf("was written by a newer weir: its format is %d, this weir knows up to %d", format, Format)
	case format < 1:
		return fmt.Errorf("has format %d, which weir never wrote", format)
	}
	return nil
}

// unmarshalStrictly is json.Unmarshal that refuses unknown names.
func unmarshalStrictly(data []byte, into any) error {
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return err
	}
	if _, err := d.Token(); err != io.EOF {
		return errors.New("more follows after the end")
	}
	return nil
}
