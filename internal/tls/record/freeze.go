package record

import (
	"errors"

	"reuseportd/internal/pack"
)

// Freeze appends the state with which another process continues. Nothing may be opened or sealed after it, unless the
// connection stays here.
func (c *Conn) Freeze(b []byte) []byte {
	r := pack.Writing(b)
	c.form(r)
	return r.Written()
}

// Thaw makes a connection from what Freeze wrote, and returns the rest of b. It keeps nothing of b.
func Thaw(b []byte, room *Room) (c *Conn, rest []byte, err error) {
	c = &Conn{room: room}
	r := pack.Reading(b)
	c.form(r)
	if err := r.Err(); err != nil {
		return nil, nil, err
	}
	if c.suite, err = find(c.version, c.id); err != nil {
		return nil, nil, err
	}
	want := c.suite.key + c.suite.salt
	if c.id>>8 == 0x13 {
		want = c.suite.hash().Size()
	}
	if len(c.in.secret) != want || len(c.out.secret) != want {
		return nil, nil, errors.New("a key has the wrong length")
	}
	c.in.secret, c.out.secret = append([]byte(nil), c.in.secret...), append([]byte(nil), c.out.secret...)
	return c, r.Rest(), nil
}

// form is what Freeze writes and Thaw reads. Its order is a format, see Kind in the package transport.
func (c *Conn) form(r *pack.Record) {
	number16(r, &c.version)
	number16(r, &c.id)
	r.Bool(&c.client)
	r.Bool(&c.ended)
	for _, h := range []*half{&c.in, &c.out} {
		r.Bytes(&h.secret)
		seq := int64(h.seq)
		r.Int64(&seq, 1<<62)
		h.seq = uint64(seq)
	}
	useless, updates, credit, burst := int(c.useless), int(c.updates), int(c.credit), int(c.burst)
	r.Int(&useless, maxUseless)
	r.Int(&updates, maxUpdates)
	r.Int(&credit, updateEvery)
	r.Int(&burst, smallFirst)
	c.useless, c.updates, c.credit, c.burst = uint8(useless), uint8(updates), uint32(credit), uint16(burst)
}

func number16(r *pack.Record, v *uint16) {
	n := int(*v)
	r.Int(&n, 1<<16-1)
	*v = uint16(n)
}
