package meter

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"time"
)

// halves sends each request in two parts on a kept connection; every other one
// has a body, with its length or chunked, and mostly is split there. Even clients
// wait a random pause before the second part; odd ones wait for the next Mark,
// for seven pauses at most.
func (m *Meter) halves(ctx context.Context, t *tally, id int) {
	rnd := rand.New(rand.NewPCG(m.cfg.Seed, uint64(id)))
	m.reconnect(ctx, t, func(c *conn) error { return m.halve(ctx, t, c, id, rnd) })
}

func (m *Meter) halve(ctx context.Context, t *tally, c *conn, id int, rnd *rand.Rand) error {
	for n := id; ctx.Err() == nil; n++ {
		path := m.cfg.Paths[n%len(m.cfg.Paths)]
		request, head := m.request(path, false), math.MaxInt
		if n%2 == 1 {
			request, head = m.withBody(path, n%4 == 1)
		}
		at := 1 + rnd.IntN(len(request)-1)
		if n%2 == 1 && rnd.IntN(4) > 0 { // mostly in the body
			at = head + rnd.IntN(len(request)-head)
		}
		if err := c.send(request[:at]); err != nil {
			return err
		}
		err := m.between(ctx, c, id%2 == 1, rnd)
		// Once it has the head, a server may answer and read the body later
		// (RFC 9112 section 9.3).
		early := at >= head && errors.Is(err, errUnasked)
		if err != nil && !early {
			return fmt.Errorf("%w (with %d of %d bytes of a request sent)", err, at, len(request))
		}
		closed, err := m.secondHalf(t, c, path, request[at:], early)
		if err != nil {
			return err
		}
		if closed {
			return c.end(t)
		}
	}
	return nil
}

// halvesBody reads as requests to a server that forgets that it is in a body.
const halvesBody = "GET /body HTTP/1.1\r\nHost: body\r\n\r\nGET /body HTTP/1.1\r\nHost: body\r\n\r\n"

// withBody is a request with a body, and the length of its head.
func (m *Meter) withBody(path string, chunked bool) (request []byte, head int) {
	request = fmt.Appendf(nil, "%s %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: lossmeter\r\n", m.cfg.BodyMethod, path, m.cfg.Host)
	if !chunked {
		request = fmt.Appendf(request, "Content-Length: %d\r\n\r\n", len(halvesBody))
		return append(request, halvesBody...), len(request)
	}
	request = append(request, "Transfer-Encoding: chunked\r\n\r\n"...)
	head = len(request)
	for chunk := range slices.Chunk([]byte(halvesBody), 30) {
		request = fmt.Appendf(request, "%x;note=1\r\n%s\r\n", len(chunk), chunk)
	}
	return append(request, "0\r\nTrailer-Field: 1\r\n\r\n"...), head
}

func (m *Meter) secondHalf(t *tally, c *conn, path string, rest []byte, early bool) (closed bool, err error) {
	began := time.Now()
	if !early {
		if err := c.send(rest); err != nil {
			return false, err
		}
	}
	a, err := c.answer()
	if err == nil {
		err = m.judge(path, a)
	}
	if err != nil {
		return false, err
	}
	t.answered(time.Since(began))
	if early {
		// A server that closes may have closed already, or may still want the
		// body.
		if err := c.send(rest); err != nil && !a.close {
			return false, err
		}
	}
	return a.close, nil
}

// between is the time between the halves, in which the server must wait.
func (m *Meter) between(ctx context.Context, c *conn, forMark bool, rnd *rand.Rand) error {
	if !forMark {
		return c.idle(ctx.Done(), time.Duration(1+rnd.Int64N(int64(m.cfg.HalfPause))))
	}
	m.mu.Lock()
	marked := m.marked
	m.mu.Unlock()
	// Stop releases those who wait, too.
	release, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		select {
		case <-marked:
			cancel()
		case <-release.Done():
		}
	}()
	return c.idle(release.Done(), 7*m.cfg.HalfPause)
}
