package eventloop

// Passer is a Handler whose connections pass a number of bytes on, by Pass.
type Passer interface {
	Handler
	// Passed is called when the last of the bytes that Pass was told of is on its way.
	Passed(c *Conn)
}

// passAll as a number of bytes is as many as there are.
const passAll = -1

// Pass has the next n bytes of the connection's input go to another's output, unseen by
// the handler and beginning with what is kept; n < 0 has all of them go. The two travel together, and nobody else passes
// to that one. While it doesn't take them nothing is read. After n bytes Passer.Passed is called;
// the end of the input is told by Ended, as ever.
func (c *Conn) Pass(to *Conn, n int64) {
	c.tie.to, c.tie.left = to, max(n, passAll)
	c.flags &^= paused
	c.Await(&c.tie.sends)
	c.Release()
}

// Passing returns how many bytes are still to be passed; less than 0 for all, 0 for
// none.
func (c *Conn) Passing() int64 {
	if c.tie == nil {
		return 0
	}
	return c.tie.left
}

// Passed returns how many bytes of the connection's input were passed since Join.
func (c *Conn) Passed() uint64 {
	if c.tie == nil {
		return 0
	}
	return c.tie.passed
}

// passes reports whether input goes to another connection.
func (c *Conn) passes() bool { return c.tie != nil && c.tie.left != 0 }
