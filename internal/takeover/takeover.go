// Package takeover hands the listening sockets of a running weir to a new one, over a Unix socket, so
// that a new binary comes into force without a refused connection.
//
// The two talk in steps, each of them one message:
//
//	new                                   running
//	hello (version)                 →     Giver.Sockets
//	Take                            ←     sockets, with descriptors
//	builds all that can fail
//	Taken.Ready                     →     Giver.Release: freezes changes, closes its state
//	                                ←     yours
//	opens the state
//	Taken.Serving                   →     Giver.Done: accepts no more, drains, exits
//
// At every instant one of them is the one that serves, whoever dies:
//
//   - Up to "ready" the new one has touched nothing. When it dies, or is silent for too long, the
//     running one goes on (Giver.Failed).
//   - From there to "serving" the running one takes back what it released (Giver.Reclaim).
//   - "serving" is the commitment, and it cannot be lost or come too late unnoticed: the running one
//     shuts the connection for reading before it takes back, which the system does as one step, so the
//     message either was there before or cannot be sent. Hence the new one should accept connections
//     only after Taken.Serving has returned: sockets are shared, so clients wait meanwhile, in the
//     backlog or for the running one.
//   - When the running one dies after the descriptors were passed, the new one goes on alone: Ready and
//     Serving return nil. They can tell, for the running one never leaves without a word.
//
// The socket on which the running one listens for this is passed on, too, so that its file is never
// without a listener and nobody has to remove what a successor made.
package takeover

import (
	"errors"
	"fmt"
	"os"
	"time"
)

// protocol is the number of what is described above. A running weir refuses any other.
const protocol = 1

// Socket is a listening socket that is handed over.
type Socket struct {
	Name    string // what it is for: "proxy", "admin"
	Address string // as configured
	// File is a descriptor of it that its owner closes. Its Fd method is not to be called: where File
	// comes from package net, that makes the socket blocking, in both processes.
	File *os.File
}

// Peer is the other process.
type Peer struct {
	Version string
	PID     int
}

func (p Peer) String() string { return fmt.Sprintf("weir %s (process %d)", p.Version, p.PID) }

var (
	// ErrNobody says that no running weir can be asked for its sockets.
	ErrNobody = errors.New("no weir runs there")
	// ErrSystem is what everything here returns on other systems than Linux.
	ErrSystem = errors.New("a takeover needs Linux")
)

const (
	// helloWithin is how long a new connection may be silent.
	helloWithin = 5 * time.Second
	// sendWithin bounds the wait for a peer that does not read.
	sendWithin = 5 * time.Second
)

// The kinds of message.
const (
	kindHello   = "hello"
	kindSockets = "sockets"
	kindReady   = "ready"
	kindYours   = "yours"
	kindServing = "serving"
	kindNo      = "no" // the running one refuses or withdraws
)

// message is what goes over the wire as JSON, a packet each. Unknown fields are ignored.
type message struct {
	Kind     string       `json:"kind"`
	Protocol int          `json:"protocol,omitempty"` // hello
	Version  string       `json:"version,omitempty"`  // hello and the first sockets
	PID      int          `json:"pid,omitempty"`      // the first sockets
	Sockets  []socketName `json:"sockets,omitempty"`  // a descriptor comes with each
	More     bool         `json:"more,omitempty"`     // another packet of sockets follows
	Kept     []int        `json:"kept,omitempty"`     // ready: numbers of sockets, in the order in which they came
	Reason   string       `json:"reason,omitempty"`   // no
}

type socketName struct {
	Name    string `json:"name"`
	Address string `json:"address"`
}

// ownName is that of the socket of takeovers, the first that is passed.
const ownName = "takeover"

// perPacket is how many descriptors a packet carries: the system takes 253.
const perPacket = 128

func closeAll(files []*os.File) {
	for _, f := range files {
		_ = f.Close()
	}
}
