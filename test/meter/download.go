package meter

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

func (m *Meter) openFile() error {
	f, err := os.Open(m.cfg.DownloadFile)
	if err != nil {
		return fmt.Errorf("the file to download: %w", err)
	}
	m.file = f
	return nil
}

// download fetches the file again and again on a kept connection, with a small
// receive buffer, so slowly that the server has to wait. Every byte is compared.
// Once ctx ends, the rest is read as fast as it comes, and one more request
// proves that the connection is as it was.
func (m *Meter) download(ctx context.Context, t *tally, _ int) {
	for ctx.Err() == nil {
		c, err := m.dialControlled(t, m.cfg.HTTP, smallWindow)
		if err != nil {
			t.lost(nil, err, 1)
			sleep(ctx, afterLoss)
			continue
		}
		if err := m.fetch(ctx, t, c); err != nil {
			t.lost(c.LocalAddr(), err, 1)
			sleep(ctx, afterLoss)
		}
		c.Close()
	}
}

// fetch uses one connection to its end.
func (m *Meter) fetch(ctx context.Context, t *tally, c *conn) error {
	for {
		closed, err := m.fetchOnce(ctx, t, c)
		if err != nil {
			return err
		}
		if closed {
			return c.end(t)
		}
		if ctx.Err() != nil {
			return m.stillThere(t, c)
		}
	}
}

func (m *Meter) fetchOnce(ctx context.Context, t *tally, c *conn) (closed bool, err error) {
	info, err := m.file.Stat()
	if err != nil {
		return false, &fault{ReadBody, err}
	}
	began := time.Now()
	if err := c.send(m.request(m.cfg.DownloadPath, false)); err != nil {
		return false, err
	}
	resp, err := http.ReadResponse(c.r, nil)
	if err != nil {
		return false, &fault{ReadHead, err}
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK || resp.ContentLength != info.Size() {
		return false, &fault{ReadBody, fmt.Errorf("status %d with %d bytes, want 200 with the file's %d",
			resp.StatusCode, resp.ContentLength, info.Size())}
	}
	if err := m.compare(ctx, t, c, resp.Body, info.Size()); err != nil {
		return false, err
	}
	t.answered(time.Since(began))
	return resp.Close, nil
}

// compare reads a download of size bytes, in steps until ctx ends.
func (m *Meter) compare(ctx context.Context, t *tally, c *conn, body io.Reader, size int64) error {
	const steps = 50 // a second
	buf := make([]byte, 64<<10)
	for at := int64(0); at < size; {
		step := size - at
		if ctx.Err() == nil {
			step = min(int64(m.cfg.DownloadRate/steps), 1+(size-at)/(10*steps))
		}
		for end := at + step; at < end; {
			n := min(end-at, int64(len(buf)))
			if err := m.comparePart(c, body, buf[:n], at); err != nil {
				return err
			}
			t.echoed(0, int(n))
			at += n
		}
		sleep(ctx, time.Second/steps)
	}
	return nil
}

func (m *Meter) comparePart(c *conn, body io.Reader, got []byte, at int64) error {
	if err := c.SetReadDeadline(time.Now().Add(c.timeout)); err != nil {
		return &fault{ReadBody, err}
	}
	if n, err := io.ReadFull(body, got); err != nil {
		return &fault{ReadBody, fmt.Errorf("after byte %d of the file: %w", at+int64(n), err)}
	}
	want := make([]byte, len(got))
	if _, err := m.file.ReadAt(want, at); err != nil {
		return &fault{ReadBody, fmt.Errorf("read the file to compare with: %w", err)}
	}
	if i := firstDifference(got, want); i >= 0 {
		return &fault{ReadBody, fmt.Errorf("byte %d of the file is %#02x, want %#02x", at+int64(i), got[i], want[i])}
	}
	return nil
}

// stillThere makes one more request on a connection.
func (m *Meter) stillThere(t *tally, c *conn) error {
	path := m.cfg.Paths[0]
	a, err := c.exchange(m.request(path, false))
	if err == nil {
		err = m.judge(path, a)
	}
	if err == nil && a.close {
		err = c.end(t)
	}
	return err
}

// smallWindow makes the receive buffer small before the handshake, which tells
// the server how far the window may grow.
func smallWindow(network, address string, c syscall.RawConn) error {
	const size = 16 << 10
	var err error
	ctlErr := c.Control(func(fd uintptr) {
		err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, size)
	})
	if !strings.HasPrefix(network, "tcp") {
		return errors.Join(err, ctlErr)
	}
	return errors.Join(err, ctlErr, lateBind(network, address, c))
}
