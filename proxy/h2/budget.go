package h2

// A peer has a budget for frames that do not bring a request or an answer any further. Useful work earns it back, and
// time does (Tick); where it is used up, the connection ends with ENHANCE_YOUR_CALM. So a flood (rapid reset, PING,
// SETTINGS, WINDOW_UPDATE, PRIORITY, CONTINUATION, empty DATA, faults that make this side reset streams) ends after a
// few hundred or thousand frames, while a client that gets answers may send several such frames for each, and one
// that cancels everything it asks may do so a hundred times a second.
//
// What is pending is bounded by it as well: answers to frames of the peer cost it something, and nothing is earned
// while it does not read.
const (
	budgetMax = 2000

	costFrame    = 1 // PING, WINDOW_UPDATE, PRIORITY, CONTINUATION, empty DATA, unknown frames, interim answers
	costSettings = 4 // and what may have to be applied to all streams
	costRefused  = 2 // a stream more than allowed
	costReset    = 4 // a stream reset before its answer began, or by this side for a fault of the peer's

	earnStream = 4   // a stream that both sides ended: a request is followed by a few frames at most
	earnData   = 4   // DATA sent: it is answered by two WINDOW_UPDATEs, and a PING that measures
	earnBytes  = 512 // of DATA sent for one: some peers open both windows after each kilobyte that they read
	earnTick   = 400
)

// smallData is the size in bytes below which a DATA frame that was cut by a window earns nothing: else a peer could
// have as many of them as it likes, of a byte each (CVE-2019-9511).
const smallData = 1 << 10

// spend takes from the budget.
func (c *Conn) spend(cost int) {
	if c.budget -= cost; c.budget < 0 {
		c.fail(EnhanceYourCalm, "a flood of frames that bring no request any further")
	}
}

func (c *Conn) earn(n int) { c.budget = min(c.budget+n, budgetMax) }

// Tick is to be called about once a second, so that a Conn, which has no clock, can tell a flood of useless frames from
// a few over a long time: also while there are no streams, for the PINGs that keep an idle connection open. Without it
// a peer has to earn them, and the memory of many streams is kept.
func (c *Conn) Tick() {
	if c.unsent() < maxPending {
		c.earn(earnTick)
	}
	if c.open == 0 {
		c.rest()
	}
}
