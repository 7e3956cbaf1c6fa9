package load

import (
	"fmt"
	"strconv"
)

// faults looks for those of GPUs. What was there before the first reading is of an unknown age: only what stands counts.
func (r *Reader) faults(b *bound, out *Reading) {
	first := r.last.IsZero()
	for _, i := range b.of {
		for _, e := range r.slots[i].series {
			if !e.seen {
				continue
			}
			differs := !first && (!e.had || e.value != e.before)
			grew := differs && e.value > 0 && (!e.had || e.value > e.before)
			switch b.how {
			case changed:
				if xid := int(e.value); differs && xid != 0 && !applicationXID(xid) {
					out.Events = append(out.Events, fmt.Sprintf("%s: %s %d", gpuText(e.key), b.into, xid))
				}
			case counted:
				if grew {
					out.Events = append(out.Events, fmt.Sprintf("%s: %s %s", gpuText(device(e.key)), b.into, labelled(e.key, "xid")))
				}
			case grown:
				if grew {
					out.Events = append(out.Events, fmt.Sprintf("%s: %s %s", gpuText(e.key), strconv.FormatFloat(e.value-e.before, 'f', -1, 64), b.into))
				}
			case standing:
				if e.value != 0 {
					out.Standing = append(out.Standing, fmt.Sprintf("%s: %s", gpuText(e.key), b.into))
				}
			}
		}
	}
}

func gpuText(device string) string {
	if device == "" {
		return "a GPU"
	}
	return "GPU " + device
}

// device tells a GPU by the labels of a series.
func device(labels string) string {
	for _, name := range [...]string{"gpu", "device_id", "gpu_uuid", "UUID"} {
		if v := labelled(labels, name); v != "" {
			return v
		}
	}
	return ""
}
