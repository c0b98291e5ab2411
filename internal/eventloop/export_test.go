package eventloop

import "unsafe"

const (
	ConnSize   = unsafe.Sizeof(Conn{})
	TurnBudget = turnBudget
)

func (l *Loop) Check() error    { return l.check() }
func (l *Loop) Epoll() int      { return int(l.epfd) }
func (l *Loop) WakeFD() int     { return int(l.wakefd) }
func (c *Conn) FD() int         { return int(c.fd) }
func (c *Conn) Gen() uint32     { return c.gen }
func (c *Conn) Blocked() bool   { return c.has(blocked) }
func (c *Conn) Lingering() bool { return c.has(lingering) }
func (c *Conn) Timeout() Class  { return c.class }
