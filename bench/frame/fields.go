package frame

// Stable reports whether a block of fields (RFC 7541, section 6) changes no table, so that it means the same
// again as long as nothing else does.
func Stable(block []byte) bool {
	for len(block) > 0 {
		first := block[0]
		switch {
		case first&0x80 != 0: // indexed
			_, block = integer(block, 7)
		case first&0xe0 != 0: // with incremental indexing, or a new size of the table
			return false
		default: // literal
			var index int
			if index, block = integer(block, 4); index == 0 {
				block = skipString(block)
			}
			block = skipString(block)
		}
	}
	return true
}

// integer reads an integer with a prefix of so many bits (RFC 7541, section 5.1), of a block that was
// encoded well.
func integer(b []byte, prefix uint) (int, []byte) {
	mask := 1<<prefix - 1
	n, b := int(b[0])&mask, b[1:]
	if n < mask {
		return n, b
	}
	for shift := 0; len(b) > 0; shift += 7 {
		next := b[0]
		n, b = n+int(next&0x7f)<<shift, b[1:]
		if next&0x80 == 0 {
			break
		}
	}
	return n, b
}

func skipString(b []byte) []byte {
	n, b := integer(b, 7)
	return b[n:]
}
