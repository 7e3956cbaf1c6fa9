package control

import (
	"weir/internal/state"
	"weir/proxy"
)

// Detach lets no change begin and closes the store, so that another process can go on from it. Changes are
// refused with why, requests are served as ever.
func (c *Controller) Detach(why *proxy.ControlError) error {
	c.Freeze(why)
	c.disk.Lock()
	defer c.disk.Unlock()
	if !c.detached {
		c.writeExperiments()
	}
	c.detached = true
	return c.store.Close()
}

// Refuse tells another reason why no change can begin, after Detach.
func (c *Controller) Refuse(why *proxy.ControlError) { c.freeze(why) }

// Attach undoes Detach with a store that was opened anew. What it holds is replaced: another process may
// have written before it gave up. After Close it only closes the store.
func (c *Controller) Attach(store state.Store) {
	c.disk.Lock()
	defer c.disk.Unlock()
	if c.closed.Load() {
		_ = store.Close() // nothing was written to it
		return
	}
	c.store, c.detached = store, false
	c.save()
	c.freeze(nil)
}
