// Package bench is weir's load tester as a library.
//
// An [Attack] is open loop: a [Pacer] says when each request is due, whether or not earlier ones
// have been answered, and latency counts from that moment. A target that stalls cannot hide its
// stall by slowing the generator down: what could not be sent in time is counted as late, and
// what could not be sent at all as dropped. A [Target] says what to send and judges the answer;
// a [Tally] adds the results up per variant (the X-Weir-Variant field of the answer), and a
// [Report] puts them into words.
//
// The same seed gives the same schedule, the same users and the same bodies in the same order,
// whichever connection carries them. A [Schedule] describes when requests are due, by rate or as
// recorded; a [Search] looks for the highest rate that keeps an [Objective]. A report also judges
// the split it saw ([Split]) and the generator itself ([Generator]).
//
// The package speaks HTTP/1.1, HTTP/2 and gRPC, over clear TCP and TLS, with clients of its own, which
// cost less CPU than the general ones: generator, proxy and endpoint often share one machine.
// Whatever is spoken, a [Target] writes a request as the text of HTTP/1.1. It imports no other
// room of weir, so that it can measure any of them, and anything else that speaks HTTP.
package bench
