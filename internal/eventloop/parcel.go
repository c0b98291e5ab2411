package eventloop

import "time"

// Mover is a Handler whose connections can go on in another process.
type Mover interface {
	Handler

	// Kind names what Freeze writes for a connection, with its version.
	Kind(c *Conn) string

	// Freeze appends to b what the connection's State holds, and returns the
	// descriptors that belong to it. State and descriptors stay as they are: the
	// connection may yet stay.
	Freeze(c *Conn, b []byte) (state []byte, fds []int)

	// Thaw is Opened for a connection that comes from another process: it sets
	// State and timeout from what Freeze wrote there, in memory that it must not
	// keep. An error refuses the connection, as a kind must be that it doesn't know. The
	// descriptors are the handler's if there is none. Of a pair, the outgoing connection is
	// thawed first; if the other is refused it is closed.
	Thaw(c *Conn, kind string, state []byte, fds []int) error
}

// Parcel is a connection between two loops, all that it consists of.
type Parcel struct {
	FD    int
	Facts uint32 // what travels of its state, by number: see facts
	In    []byte // presented and not consumed
	Out   []byte // queued and not written
	Tail  []byte // queued behind Out by WriteStatic

	// Of a connection that is not plain.
	Transport uint16 // the kind of Keys; 0: it is plain
	Keys      []byte // Transport.Freeze
	Cipher    []byte // read and not opened
	Opened    []byte // opened and not presented
	Sealed    []byte // to be written in front of Out
	Word      Word   // who has said that it has ended

	File      int   // queued behind Out by SendFile, or -1
	Off, Left int64 // what of it, in bytes

	// Due is how long until the connection's timeout; 0 if it has none.
	Due time.Duration

	Kind  string // Mover.Kind
	State []byte // Mover.Freeze
	Files []int  // Mover.Freeze

	Age    time.Duration // Conn.Age; of a partner it isn't known
	Served uint32        // Conn.Served; likewise

	// Of connections that travel together: Conn.Passing, Conn.Passed, and the next of them, nil behind the last. The
	// first is a client's.
	Passing int64
	Passed  uint64
	Partner *Parcel
	// PassTo is whose output Passing means, by its place in that order, where more than two travel
	// together; of two it is the other.
	PassTo int
}

// AppendFDs appends the parcel's descriptors, the socket first, and its partner's.
func (p *Parcel) AppendFDs(fds []int) []int {
	fds = append(fds, p.FD)
	if p.File >= 0 {
		fds = append(fds, p.File)
	}
	fds = append(fds, p.Files...)
	if p.Partner != nil {
		fds = p.Partner.AppendFDs(fds)
	}
	return fds
}

// size returns its bytes.
func (p *Parcel) size() int {
	n := len(p.In) + len(p.Out) + len(p.Tail) + len(p.State) + len(p.Keys) + len(p.Cipher) + len(p.Opened) + len(p.Sealed)
	if p.Partner != nil {
		n += p.Partner.size()
	}
	return n
}

// FDs returns the parcel's descriptors, the socket first.
func (p *Parcel) FDs() []int { return p.AppendFDs(nil) }

// countFDs returns their number.
func (p *Parcel) countFDs() int {
	n := 1 + len(p.Files)
	if p.File >= 0 {
		n++
	}
	if p.Partner != nil {
		n += p.Partner.countFDs()
	}
	return n
}

// Departure is a connection that has been taken out of its loop, to be offered
// to another. The loop keeps it, untouched, until Departed or Return.
type Departure struct {
	Service *Service
	Parcel
	at mark
}
