package admin

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"weir/config"
)

// weights is an object of numbers that is read as strictly as decodeStrictly reads a body.
type weights map[string]float64

// UnmarshalJSON implements json.Unmarshaler.
func (w *weights) UnmarshalJSON(data []byte) error {
	decoder := json.NewDecoder(bytes.NewReader(data))
	open, err := decoder.Token()
	if err != nil {
		return err
	}
	if open != json.Delim('{') {
		return errors.New(`"weights" must be an object of numbers such as {"blue":90,"green":10}`)
	}
	*w = weights{}
	for decoder.More() {
		name, err := decoder.Token()
		if err != nil {
			return err
		}
		key, _ := name.(string) // the decoder lets nothing else stand here
		if _, twice := (*w)[key]; twice {
			return fmt.Errorf("weights: %s is named twice", quote(key))
		}
		value, err := decoder.Token()
		if err != nil {
			return err
		}
		number, ok := value.(float64)
		if !ok {
			return fmt.Errorf("weights: the weight of %s must be a number", quote(key))
		}
		(*w)[key] = number
	}
	return nil
}

// span is a duration as the configuration writes it.
type span struct{ time.Duration }

// UnmarshalText implements encoding.TextUnmarshaler.
func (s *span) UnmarshalText(text []byte) (err error) {
	if s.Duration, err = config.ParseDuration(string(text)); err != nil {
		err = fmt.Errorf("ramp: %w", err)
	}
	return err
}
