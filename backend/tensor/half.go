package tensor

import "math"

// Float16 is an IEEE 754 half-precision number, as its bits.
type Float16 uint16

// BFloat16 is the upper half of a float32, as its bits.
type BFloat16 uint16

// Float32 is the same number as a float32, exactly.
func (h Float16) Float32() float32 {
	sign := uint32(h>>15) << 31
	exponent := uint32(h>>10) & 0x1f
	mantissa := uint32(h) & 0x3ff
	switch {
	case exponent == 0x1f: // infinity, NaN
		return math.Float32frombits(sign | 0xff<<23 | mantissa<<13)
	case exponent != 0:
		return math.Float32frombits(sign | (exponent+127-15)<<23 | mantissa<<13)
	}
	// A subnormal half is a multiple of 2^-24, which a float32 holds exactly.
	f := float32(mantissa) * 0x1p-24
	return math.Float32frombits(sign | math.Float32bits(f))
}

// ToFloat16 rounds to the nearest half, ties to even; what is too large becomes an infinity.
func ToFloat16(f float64) Float16 {
	sign := Float16(0)
	if math.Signbit(f) {
		sign, f = 0x8000, -f
	}
	switch {
	case math.IsNaN(f):
		return sign | 0x7e00
	case f >= 65520: // halfway between the largest half (65504) and the next step
		return sign | 0x7c00
	case f < 0x1p-14:
		// Subnormals count in units of 2^-24; 1024 of them are the smallest normal number,
		// whose bits follow the largest subnormal's.
		return sign | Float16(math.RoundToEven(f*0x1p24))
	}
	fraction, exponent := math.Frexp(f) // f = fraction × 2^exponent, ½ ≤ fraction < 1
	mantissa := uint32(math.RoundToEven(fraction * 2048))
	// mantissa is 1024 … 2048; its leading bit adds one to the exponent field, and so does the
	// carry when it rounded up to 2048.
	return sign | Float16(uint32(exponent+13)<<10+mantissa)
}

// Float32 is the same number as a float32, exactly.
func (b BFloat16) Float32() float32 { return math.Float32frombits(uint32(b) << 16) }

// ToBFloat16 rounds to the nearest bfloat16, ties to even; what is too large becomes an infinity.
// The rounding goes through float32; both steps are to nearest.
func ToBFloat16(f float64) BFloat16 {
	if math.IsNaN(f) {
		return 0x7fc0
	}
	bits := math.Float32bits(float32(f))
	bits += 0x7fff + bits>>16&1
	return BFloat16(bits >> 16)
}
