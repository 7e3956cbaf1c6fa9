// Package proxy takes a request from a client, start to finish: it matches a route, chooses a
// variant, picks an endpoint, makes the attempt, relays the answer and accounts for it.
//
// The path of a request, in the order of the files:
//
//	listener.go  accept → conn.go  one client connection → intake.go  fasthttp parses its heads
//	request.go   check → match → admit → choose → attempt → account: one straight function
//	limit.go     whether the request's key is within its rate
//	attempt.go   one exchange with one endpoint, over transport.go (its connections)
//	retry.go     whether there is another attempt, where, and when
//	head.go      request and response heads, byte for byte        body.go  bodies, relayed
//	watch.go     one sweep for all timeouts and for clients that went away
//
// Everything a request reads is one immutable Table behind one atomic pointer (table.go); build.go
// makes a new one from a configuration and hands the live state over, apply.go puts it in force, change.go
// puts weights and drains over it.
//
// The request path is written as blocking code over socket.go, which is the seam to the engine
// underneath: descriptor is a connection, strand what its code waits on beside its own sockets.
//
//	goroutine.go         a goroutine for each connection, parked in the runtime's poller
//	engine_linux.go      accepts for the event loops, starts and ends them
//	loop_linux.go        one loop: its events, and the coroutines that requests run in
//	loopconn_linux.go    one connection of a loop
//	watchdog_linux.go    finds what blocks a loop
//
// What runs on a loop may wait only by its strand and its sockets. Locks are held for moments; anything
// that takes longer (a name server, a disk, a channel) belongs elsewhere, or behind the strand.
package proxy
