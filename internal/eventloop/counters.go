package eventloop

import "unsafe"

// Counters are what one loop counts. They may lie in memory that other
// processes read, so each is one aligned 64-bit word, written by the loop's
// goroutine alone and with plain stores. All but Open and UpstreamOpen only grow.
//
// The order is part of the shared memory's layout: append, never reorder.
type Counters struct {
	Accepted     uint64 // connections accepted
	Open         uint64 // connections open now
	Closed       uint64 // connections closed, for whatever reason
	Requests     uint64 // requests answered, as the service counts them
	BytesIn      uint64 // bytes read from clients
	BytesOut     uint64 // bytes written to clients
	HandedOver   uint64 // connections passed to another worker
	Finished     uint64 // connections that ended by themselves while draining
	Cut          uint64 // connections that the loop ended before they were done
	AcceptPaused uint64 // times that the connection limit stopped accepting
	AcceptNoFD   uint64 // times that EMFILE or ENFILE stopped accepting
	AcceptErrors uint64 // failed accepts of any other kind
	Panics       uint64 // panics of a service, each of which cost its connection
	LogDropped   uint64 // lines of logs that the writer could not keep up with
	Turns        uint64 // times round the loop
	Wakeups      uint64 // times that a blocking wait returned with events
	TakenOver    uint64 // connections taken over from another worker
	AcceptEmpty  uint64 // accepts that found no connection (EAGAIN)
	WakeupsVain  uint64 // wake-ups all of whose events were of listeners with no connection
	UpstreamOpen uint64 // connections to servers open now; they count nowhere above
	UpstreamIn   uint64 // bytes read from servers
	UpstreamOut  uint64 // bytes written to servers
	UpstreamKept uint64 // idle connections to servers taken over from another worker
	ShedHeads    uint64 // connections ended for want of memory: part of a message had arrived
	ShedBodies   uint64 // …a message was under way
	ShedIdle     uint64 // …that were idle
	IdleClosed   uint64 // kept connections, clients' and servers', closed to make room for others
	NoRoom       uint64 // connections to servers, and files, that there was no descriptor for
	Stayed       uint64 // connections of a draining worker that no other would take
	Quiet        uint64 // echo, tcp and tunnel connections ended because nothing had moved
	// ClientRefused is connections whose client had as many as it may; each is closed too.
	ClientRefused uint64
	// ClientUncounted is connections of clients with a bound that there was no room to count.
	ClientUncounted uint64
	Slow            uint64 // connections ended because the peer was slower than min_rate
	Handshakes      uint64 // of TLS that were done
	Resumed         uint64 // …by a ticket
	ShakesFailed    uint64 // handshakes of TLS that came to nothing
	ShakesWaited    uint64 // …that had to wait for others to be done
}

// in and out count bytes of a connection.
func (c *Counters) in(o *Conn, n int) {
	if o.has(outgoing) {
		c.UpstreamIn += uint64(n)
	} else {
		c.BytesIn += uint64(n)
	}
}

func (c *Counters) out(o *Conn, n int) {
	if o.has(outgoing) {
		c.UpstreamOut += uint64(n)
	} else {
		c.BytesOut += uint64(n)
	}
}

// Add adds another loop's counters, Open too.
func (c *Counters) Add(o *Counters) {
	to, from := (*[counterWords]uint64)(unsafe.Pointer(c)), (*[counterWords]uint64)(unsafe.Pointer(o))
	for i := range to {
		to[i] += from[i]
	}
}

// Sub takes off what had been counted at an earlier time.
func (c *Counters) Sub(o *Counters) {
	to, from := (*[counterWords]uint64)(unsafe.Pointer(c)), (*[counterWords]uint64)(unsafe.Pointer(o))
	for i := range to {
		to[i] -= from[i]
	}
}

const counterWords = unsafe.Sizeof(Counters{}) / 8
