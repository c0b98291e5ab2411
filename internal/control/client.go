package control

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"reuseportd/internal/rundir"
)

// maxResponse bounds what a client reads: thousands of workers fit in it.
const maxResponse = 16 << 20

// ErrNoMaster is wrapped by the error of a client that finds no master.
var ErrNoMaster = errors.New("no reuseportd runs")

// ErrUnknownOutcome is wrapped by the error of a request for a change whose answer did
// not come: the change may or may not have been made.
var ErrUnknownOutcome = errors.New("the outcome is unknown")

// RefusedError is the master's refusal of a request, with the master's text.
type RefusedError struct{ Text string }

func (e *RefusedError) Error() string { return e.Text }

// Client speaks to a running master. It is for one goroutine.
type Client struct {
	conn *net.UnixConn
	r    *bufio.Reader
	pid  int      // of the master, 0 if unknown
	file *os.File // received with the last answer
}

// receiver reads from the connection and keeps the file that comes with an answer.
type receiver struct{ c *Client }

func (r receiver) Read(p []byte) (int, error) {
	var oob [64]byte
	n, oobn, _, _, err := r.c.conn.ReadMsgUnix(p, oob[:])
	if err == nil && n == 0 {
		err = io.EOF
	}
	n, oobn = max(n, 0), max(oobn, 0)
	msgs, perr := unix.ParseSocketControlMessage(oob[:oobn])
	if perr != nil {
		return n, err
	}
	for i := range msgs {
		fds, _ := unix.ParseUnixRights(&msgs[i])
		for _, fd := range fds {
			unix.CloseOnExec(fd)
			if r.c.file != nil {
				r.c.file.Close()
			}
			r.c.file = os.NewFile(uintptr(fd), "custody")
		}
	}
	return n, err
}

// dialPatience is how long a client waits for a place in the queue of the control socket.
// A variable, so that tests need not wait.
var dialPatience = 5 * time.Second

// Dial connects to the master that uses the directory at a path. The directory is checked as
// its master checks it, unless unsafe is set; otherwise anybody who can put a socket there
// could answer.
func Dial(path string, unsafe bool) (*Client, error) {
	return DialContext(context.Background(), path, unsafe)
}

// DialContext is like Dial, but waits for a place in the socket's queue only until ctx
// ends.
func DialContext(ctx context.Context, path string, unsafe bool) (*Client, error) {
	dir, err := rundir.Open(path, rundir.Options{Client: true, Unsafe: unsafe})
	if err != nil {
		return nil, explainDial(err, path)
	}
	defer dir.Close()
	return DialIn(ctx, dir)
}

// DialIn is like DialContext, for an open directory.
func DialIn(ctx context.Context, dir *rundir.Dir) (*Client, error) {
	ctx, cancel := context.WithTimeout(ctx, dialPatience)
	defer cancel()
	began := time.Now()
	conn, pid, err := connect(dir)
	for errors.Is(err, unix.EAGAIN) { // the socket's queue is full at the moment
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("%s: the master has taken no clients for %s: %s", SocketPath(dir.Path()),
				time.Since(began).Round(100*time.Millisecond), describe(writtenPID(dir)))
		case <-time.After(10 * time.Millisecond):
		}
		conn, pid, err = connect(dir)
	}
	if err != nil {
		return nil, explainDial(err, dir.Path())
	}
	c := &Client{conn: conn, pid: pid}
	c.r = bufio.NewReader(receiver{c})
	return c, nil
}

// connect connects to the control socket and insists that the directory's owner, or root,
// listens there.
func connect(dir *rundir.Dir) (*net.UnixConn, int, error) {
	fd, err := dir.Connect(SocketName, unix.SOCK_STREAM)
	if err != nil {
		return nil, 0, err
	}
	f := os.NewFile(uintptr(fd), SocketName)
	defer f.Close() // net.FileConn duplicates it
	conn, err := net.FileConn(f)
	if err != nil {
		return nil, 0, err
	}
	uc := conn.(*net.UnixConn)
	cred, err := peerCred(uc)
	if err == nil && cred.Uid != 0 && cred.Uid != dir.Owner() && !dir.Unsafe() {
		err = fmt.Errorf("uid %d answers there, and the directory is uid %d's", cred.Uid, dir.Owner())
	}
	if err != nil {
		_ = uc.Close()
		return nil, 0, err
	}
	return uc, int(cred.Pid), nil
}

// writtenPID returns the PID in the PID file, 0 if it can't be read.
func writtenPID(dir *rundir.Dir) int {
	text, err := dir.ReadFile(PIDFile, 32)
	if err != nil {
		return 0
	}
	pid, _ := strconv.Atoi(strings.TrimSpace(string(text))) // 0: none
	return pid
}

func explainDial(err error, dir string) error {
	path := SocketPath(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.ECONNREFUSED), errors.Is(err, unix.ENOTDIR):
		return fmt.Errorf("%w with runtime directory %s; start one with `reuseportd run`, or name another directory by --runtime-dir", ErrNoMaster, dir)
	case rundir.IsUnsafe(err):
		return err
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%s: permission denied; only root%s may ask this master", path, owner(dir))
	default:
		return fmt.Errorf("connect to %s: %w", path, err)
	}
}

// owner names the user whose requests the master in dir answers, if that can be seen.
func owner(dir string) string {
	for _, path := range []string{SocketPath(dir), dir} {
		var st unix.Stat_t
		if unix.Stat(path, &st) != nil {
			continue
		}
		if st.Uid == 0 {
			return ""
		}
		return fmt.Sprintf(" and uid %d", st.Uid)
	}
	return ""
}

// PID returns the master's process, as the kernel names it: whoever listens at the
// control socket. It is 0 if the process has no number here (another PID namespace).
func (c *Client) PID() int { return c.pid }

// Close ends the conversation.
func (c *Client) Close() error { return c.conn.Close() }

// Do sends a request and waits for the answer until ctx ends. A refusal is returned as a
// *RefusedError; a change that failed is not an error, but an answer with its Receipt.
func (c *Client) Do(ctx context.Context, req Request) (Response, error) {
	stop := context.AfterFunc(ctx, func() { c.conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	line, err := json.Marshal(req)
	if err != nil {
		return Response{}, err
	}
	// A refusal may be there before anything was asked, and then the write fails; so read in
	// any case.
	_, writeErr := c.conn.Write(append(line, '\n'))
	line, err = c.readResponse()
	if err != nil {
		return Response{}, c.explainDo(ctx, req, errors.Join(writeErr, err))
	}
	var resp Response
	if err := json.Unmarshal(line, &resp); err != nil {
		return Response{}, fmt.Errorf("the master's answer to %s is not understood: %w", req.Command, err)
	}
	resp.File, c.file = c.file, nil
	if resp.Error != "" {
		return resp, &RefusedError{Text: resp.Error}
	}
	return resp, nil
}

var errTooBig = fmt.Errorf("the answer has more than %d bytes", maxResponse)

func (c *Client) readResponse() ([]byte, error) {
	var all []byte
	for {
		part, err := c.r.ReadSlice('\n')
		all = append(all, part...)
		switch {
		case err == nil:
			return all, nil
		case !errors.Is(err, bufio.ErrBufferFull):
			return all, err
		case len(all) > maxResponse:
			return all, errTooBig
		}
	}
}

// lostError is the error of a request whose answer did not come.
type lostError struct {
	text   string
	causes []error
}

func (e *lostError) Error() string   { return e.text }
func (e *lostError) Unwrap() []error { return e.causes }

// explainDo makes the error, for a person, that says why no answer to req came.
func (c *Client) explainDo(ctx context.Context, req Request, err error) error {
	e := &lostError{causes: []error{err}}
	switch {
	case ctx.Err() != nil:
		e.text = "gave up waiting for the master's answer"
		if cause := context.Cause(ctx); cause != ctx.Err() {
			e.text += " (" + cause.Error() + ")"
		}
		e.text += ": " + describe(c.pid)
		e.causes = append(e.causes, ctx.Err())
	case errors.Is(err, io.EOF), errors.Is(err, unix.EPIPE), errors.Is(err, unix.ECONNRESET):
		e.text = "the master ended without an answer"
	default:
		e.text = "the connection to the master failed: " + err.Error()
	}
	e.text = req.Command + ": " + e.text
	if req.Command == "reload" || req.Command == "upgrade" || req.Command == "stop" && ctx.Err() != nil {
		e.text += fmt.Sprintf("; %v: see `reuseportd status`", ErrUnknownOutcome)
		e.causes = append(e.causes, ErrUnknownOutcome)
	}
	return e
}
