// Package proxy takes a request from a client, start to finish: it matches a route, chooses a
// variant, picks an endpoint, makes the attempt, relays the answer and accounts for it.
//
// The path of a request, in the order of the files:
//
//	listener*.go  accept (listener_unix.go: the file of a Unix socket) → introduce.go  whose it is → conn.go  one client connection → intake.go  fasthttp parses its heads
//	h2server*.go  a connection of HTTP/2: each stream is a request of a conn of its own
//	request.go   check → match → admit → choose → attempt → account: one straight function
//	gate*.go     whom the route lets in, and what it answers by itself    memory.go  whether weir has room
//	limit.go     whether the request's key is within its rate    rows.go  what it costs
//	deadline.go  how long it may take    concurrency*.go, breaker.go  its turn at route and pool
//	model.go     the model that it is for, by which it may be routed    ahead.go  also where its body says it
//	inspect.go   bodies that are read whole before the choice    source.go  texts of a request
//	choose.go    the variant and its endpoint    cache*.go  kept answers    mirror*.go  copies for a shadow
//	attempt.go   one exchange with one endpoint, over transport*.go (its connections; h2client*.go  those of HTTP/2;
//	             present.go  saying whose they are)
//	retry.go     whether there is another attempt, where, and when    hedge*.go  and one beside a slow first
//	head.go      request and response heads, byte for byte    edit*.go  what the route changes in them
//	duplex.go    both ways at once
//	body.go      bodies, relayed    compress*.go  smaller    tee.go  and copied
//	upgrade.go   WebSocket connections    tunnel.go  and their bytes
//	lending.go   how to wait for bytes without a buffer
//	call.go      how a call of gRPC ends
//	watch.go     one sweep for all timeouts and for clients that went away
//
// Everything a request reads is one immutable table behind one atomic pointer (table.go); build.go
// makes a new one from a configuration and hands the live state over, apply.go puts it in force, change.go
// puts weights and drains over it.
//
// The request path is written as blocking code over socket.go, which is the seam to the engine
// underneath: descriptor is a connection, strand what its code waits on beside its own sockets.
//
//	goroutine.go         a goroutine for each connection, parked in the runtime's poller
//	engine_linux.go      accepts for the event loops, starts and ends them
//	loop_linux.go        one loop: its events, and the coroutines that requests run in
//	loopconn_linux.go    one connection of a loop    loopdial_linux.go  made by it
//	watchdog_linux.go    finds what blocks a loop
//
// What runs on a loop may wait only by its strand and its sockets. Locks are held for moments; anything
// that takes longer (a name server, a disk, a channel) belongs elsewhere, or behind the strand.
package proxy
