package control

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Variables, so that tests need not wait for them.
var (
	// requestTimeout bounds how long a client may take to send its line.
	requestTimeout = 5 * time.Second
	// responseTimeout bounds how long it may take to read the answer.
	responseTimeout = 5 * time.Second
	// answerGrace is how long requests in progress may go on after Serve's context has
	// ended.
	answerGrace = 5 * time.Second
)

// Handler answers requests. Handle is called from many goroutines and may block for as
// long as the change takes. Its context ends when the client's place is given to another
// one, and when answerGrace is over. req.Gone is closed when the client hangs up. Handle
// must return soon after.
type Handler interface {
	Handle(ctx context.Context, req Request) Response
}

// Serve answers clients on l until ctx ends, then closes l, lets the requests in progress
// have their answers, and returns nil. If l is closed before, it serves the clients that
// have connected, then returns. It never removes the socket from the file system, since
// the next master serves on the same one.
func Serve(ctx context.Context, l *net.UnixListener, h Handler) error {
	_ = ownListener(l) // otherwise clients are told an earlier master's PID
	s := &server{h: h}
	// Requests outlive ctx by answerGrace: an upgrade's last act is to answer
	// the client that asked for it.
	var cancel context.CancelFunc
	s.ctx, cancel = context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	closed := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(closed)
		l.Close()
		s.places.close()
	})
	defer func() {
		if !stop() {
			<-closed // a second Close doesn't wait for the first one
		}
	}()

	err := s.accept(ctx, l)
	if errors.Is(err, net.ErrClosed) && ctx.Err() == nil {
		s.finish(ctx) // another socket has replaced this one
		err = nil
	}
	l.Close()
	s.places.close()
	grace := time.AfterFunc(answerGrace, cancel)
	defer grace.Stop()
	s.wg.Wait()
	return err
}

// finish waits until all connected clients are served, or ctx ends.
func (s *server) finish(ctx context.Context) {
	ended := make(chan struct{})
	go func() {
		s.wg.Wait()
		close(ended)
	}()
	select {
	case <-ended:
	case <-ctx.Done():
	}
}

type server struct {
	h      Handler
	ctx    context.Context
	wg     sync.WaitGroup
	places places
}

func (s *server) accept(ctx context.Context, l *net.UnixListener) error {
	for {
		conn, err := l.AcceptUnix()
		switch {
		case err == nil:
			s.wg.Go(func() { s.client(&client{conn: conn}) })
		case ctx.Err() != nil:
			return nil
		case temporary(err):
			// Out of descriptors or memory: the client stays in the queue.
			select {
			case <-ctx.Done():
				return nil
			case <-time.After(50 * time.Millisecond):
			}
		default:
			return fmt.Errorf("accept on the control socket %s: %w", l.Addr(), err)
		}
	}
}

func temporary(err error) bool {
	for _, e := range []error{unix.EMFILE, unix.ENFILE, unix.ENOBUFS, unix.ENOMEM, unix.ECONNABORTED, unix.EINTR} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// client serves one client to its end.
func (s *server) client(c *client) {
	defer c.conn.Close()
	if err := checkPeer(c.conn); err != nil {
		refuse(c.conn, err.Error())
		return
	}
	defer s.places.leave(c)
	r := bufio.NewReaderSize(c.conn, maxLine)
	for s.places.ask(c) {
		line, err := readLine(r)
		if err != nil && !s.places.closing(c) {
			if text := explainRead(err, len(line)); text != "" {
				answer(c.conn, Response{Error: text})
			}
			return
		}
		req, err := ParseRequest(line)
		if err == nil && req.Command == "takeover" {
			err = checkSame(c.conn)
		}
		if err != nil && !s.places.closing(c) {
			answer(c.conn, Response{Error: err.Error()})
			return
		}
		ctx, ok := s.places.wait(c, s.ctx, req.Command)
		if !ok {
			break
		}
		if !s.handle(ctx, c, req) {
			return
		}
	}
	// A request and the end of the service may have crossed: the client must learn that the
	// request was not begun.
	refuse(c.conn, c.refusal())
}

// handle answers one request, and reports whether the client has taken the answer.
func (s *server) handle(ctx context.Context, c *client, req Request) bool {
	gone, stop := watchHangup(c.conn)
	req.Gone = gone
	resp := s.h.Handle(ctx, req)
	stop()
	line := encode(resp)
	if !s.places.answer(c) {
		closeFile(resp)
		refuse(c.conn, c.refusal())
		return false
	}
	return send(c.conn, line, resp)
}

// explainRead returns what to answer to a request that could not be read, after got
// bytes; "": nothing.
func explainRead(err error, got int) string {
	switch {
	case errors.Is(err, errTooLong):
		return err.Error()
	case got == 0:
		return "" // gone or silent: it expects no answer
	case errors.Is(err, os.ErrDeadlineExceeded):
		return fmt.Sprintf("the request was not complete after %s; it is one line of JSON", requestTimeout)
	default:
		return "the request ended before its line did"
	}
}

// answer sends one response, and reports whether the client has taken it.
func answer(conn *net.UnixConn, resp Response) bool {
	return write(conn, resp, responseTimeout)
}

func write(conn *net.UnixConn, resp Response, timeout time.Duration) bool {
	line := encode(resp)
	conn.SetWriteDeadline(time.Now().Add(timeout))
	return send(conn, line, resp)
}

// encode makes a response's line.
func encode(resp Response) []byte {
	line, err := json.Marshal(resp)
	if err != nil {
		// Only a NaN or an infinity in a receipt can lead here.
		line, _ = json.Marshal(Response{Error: "the answer can't be written as JSON: " + err.Error()})
	}
	return append(line, '\n')
}

// send sends a line together with the response's file, which it then closes. It waits
// until the connection's deadline.
func send(conn *net.UnixConn, line []byte, resp Response) bool {
	defer closeFile(resp)
	var err error
	if resp.File != nil {
		_, _, err = conn.WriteMsgUnix(line, unix.UnixRights(int(resp.File.Fd())), nil)
	} else {
		_, err = conn.Write(line)
	}
	return err == nil
}

func closeFile(resp Response) {
	if resp.File != nil {
		resp.File.Close()
	}
}

// refuse answers without having read a request, and closes. The client may not have sent
// its request yet, and a reset would destroy the answer: so refuse closes only its
// writing side, and reads what is there. It never blocks for long.
func refuse(conn *net.UnixConn, text string) {
	defer conn.Close()
	const patience = 100 * time.Millisecond
	write(conn, Response{Error: text}, patience)
	conn.CloseWrite()
	conn.SetReadDeadline(time.Now().Add(patience))
	var buf [512]byte
	for {
		if _, err := conn.Read(buf[:]); err != nil {
			return
		}
	}
}
