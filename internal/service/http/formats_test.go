package http

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"reuseportd/internal/config"
	"reuseportd/internal/eventloop"
	"reuseportd/internal/pack"
	"reuseportd/internal/service/http/h1"
	"reuseportd/internal/service/http/proxy"
)

// thawer is a loop with a service, to which connections come in any state.
type thawer struct {
	t    testing.TB
	loop *eventloop.Loop
	svc  *eventloop.Service
	v    *service
}

func newThawer(t testing.TB) *thawer {
	t.Helper()
	return newThawerOf(t, nil, nil)
}

// newThawerOf is newThawer with routes, and with the pools of upstreams.
func newThawerOf(t testing.TB, routes []config.Route, pools func(*eventloop.Loop) map[string]*Pool) *thawer {
	t.Helper()
	site, err := NewSite(&config.HTTP{
		HeaderTimeout: time.Hour, BodyTimeout: time.Hour, KeepaliveTimeout: time.Hour, TunnelTimeout: time.Hour,
		MaxRequestLine: 512, MaxHeader: 2048, MaxBody: 4096, Routes: routes,
	}, Options{AccessLog: -1})
	if err != nil {
		t.Fatal(err)
	}
	l, err := eventloop.New(eventloop.Options{
		Panicked: func(v any, stack []byte) { t.Errorf("panic: %v\n%s", v, stack) },
	})
	if err != nil {
		t.Fatal(err)
	}
	var of map[string]*Pool
	if pools != nil {
		of = pools(l)
	}
	v := newService(l, site, of)
	th := &thawer{t: t, loop: l, svc: l.NewService(v, 0), v: v}
	th.svc.SetUpstreams(proxy.NewService(l, of))
	done := make(chan error, 1)
	go func() { done <- l.Run() }()
	t.Cleanup(func() {
		l.Post(l.Stop)
		if err := <-done; err != nil {
			t.Error(err)
		}
		site.Close()
	})
	return th
}

func (th *thawer) do(f func()) {
	done := make(chan struct{})
	th.loop.Post(func() { f(); close(done) })
	<-done
}

// nullFiles opens n descriptors.
func nullFiles(t testing.TB, n int) (fds []int) {
	t.Helper()
	for range n {
		fd, err := unix.Open("/dev/null", unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		fds = append(fds, fd)
	}
	return fds
}

func isOpen(fd int) bool {
	_, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
	return err == nil
}

// thaw makes a connection of a state, and of what comes to it then, and returns what
// Freeze says of it. It checks whose the descriptors are at each point.
func (th *thawer) thaw(t testing.TB, state []byte, n int, in string) (again []byte, err error) {
	t.Helper()
	return th.thawAs(t, formReading, state, n, in)
}

// thawAs is thaw of a state in a form.
func (th *thawer) thawAs(t testing.TB, form string, state []byte, n int, in string) (again []byte, err error) {
	t.Helper()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(pair[1])
	_, _ = unix.Write(pair[1], []byte(in))
	fds := nullFiles(t, n)
	var c *eventloop.Conn
	th.do(func() {
		c, err = th.loop.Arrive(th.svc, &eventloop.Parcel{FD: pair[0], File: -1, Kind: form, State: state, Files: fds})
		if err == nil {
			again, _ = th.v.Freeze(c, nil)
		}
	})
	for _, fd := range fds {
		if !isOpen(fd) {
			t.Fatalf("a descriptor was closed, error %v", err)
		}
	}
	if err != nil {
		for _, fd := range append(fds, pair[0]) {
			_ = unix.Close(fd)
		}
		return nil, err
	}
	th.do(func() { th.loop.Begin(c) })
	th.do(func() { th.loop.Cut() })
	th.do(func() {}) // closes are made at the end of a turn
	for _, fd := range append(fds, pair[0]) {
		if isOpen(fd) {
			t.Fatalf("descriptor %d was kept", fd)
		}
	}
	return again, nil
}

// packed packs numbers and byte strings.
func packed(values ...any) (b []byte) {
	for _, v := range values {
		switch v := v.(type) {
		case int:
			b = pack.Uint(b, uint64(v))
		case string:
			b = pack.Bytes(b, []byte(v))
		}
	}
	return b
}

const (
	lengthHead  = "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\n"
	chunkedHead = "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
)

// frozen are states of every phase, and the descriptors that belong to them.
var frozen = map[string]struct {
	state []byte
	files int
}{
	"idle":               {nil, 0},
	"half a head":        {packed(0, 0), 0},
	"an empty line":      {packed(0, 1), 0},
	"half a body":        {packed(1, lengthHead, 10, 0, 0, 0, 0), 0},
	"before a chunk":     {packed(1, chunkedHead, 0, int(h1.AtSize), 0, 5, 3), 0},
	"in a chunk":         {packed(1, chunkedHead, 0, int(h1.InData), 7, 9, 0), 0},
	"behind a chunk":     {packed(1, chunkedHead, 0, int(h1.AtEnd), 0, 9, 0), 0},
	"in a trailer":       {packed(1, chunkedHead, 0, int(h1.InTrailer), 0, 9, 20), 0},
	"parts":              {packed(2, 1, "tail", 2, "head", 0, 5, "head", 100, 7), 1},
	"behind the parts":   {packed(2, 0, "tail", 0), 1},
	"parts without tail": {packed(2, 0, "", 1, "", 1<<40, 1<<40), 1},
}

// TestThawEachPhase: what was frozen and thawed is frozen the same.
func TestThawEachPhase(t *testing.T) {
	th := newThawer(t)
	for name, c := range frozen {
		if again, err := th.thaw(t, c.state, c.files, ""); err != nil || !slices.Equal(again, c.state) {
			t.Errorf("%s: %v\n%q\n%q", name, err, again, c.state)
		}
	}
}

// TestThawRefuses: what is cut, too long or of no sense is an error, and the
// descriptors are left to the caller.
func TestThawRefuses(t *testing.T) {
	th := newThawer(t)
	bad := map[string]struct {
		state []byte
		files int
	}{
		"no phase":                  {packed(3), 0},
		"no step":                   {packed(1, chunkedHead, 0, int(h1.Done)+1, 0, 0, 0), 0},
		"no head":                   {packed(1, "", 10, 0, 0, 0, 0), 0},
		"half a head":               {packed(1, lengthHead[:20], 10, 0, 0, 0, 0), 0},
		"more than a head":          {packed(1, lengthHead+"x", 10, 0, 0, 0, 0), 0},
		"a bad head":                {packed(1, "x\x00\r\n\r\n", 10, 0, 0, 0, 0), 0},
		"a length that is chunked":  {packed(1, lengthHead, 0, 0, 0, 0, 0), 0},
		"chunked with a length":     {packed(1, chunkedHead, 10, 0, 0, 0, 0), 0},
		"more than a body may have": {packed(1, chunkedHead, 0, 0, 0, 4097, 0), 0},
		"negative left":             {packed(1, chunkedHead, 0, 1, -1, 0, 0), 0},
		"negative total":            {packed(1, chunkedHead, 0, 1, 0, -1, 0), 0},
		"too many parts":            {packed(append([]any{2, 0, "", 16 + 1}, slices.Repeat([]any{"", 0, 1}, 16+1)...)...), 1},
		"an empty part":             {packed(2, 0, "", 1, "", 0, 0), 1},
		"a negative part":           {packed(2, 0, "", 1, "", 0, -1), 1},
		"a part before the file":    {packed(2, 0, "", 1, "", -1, 1), 1},
		"parts of no file":          {packed(2, 0, "", 1, "", 0, 1), 0},
		"parts of two files":        {packed(2, 0, "", 1, "", 0, 1), 2},
		"a head with a file":        {packed(0, 0), 1},
		"idle with a file":          {nil, 1},
	}
	for name, c := range frozen {
		for n := 1; n < len(c.state); n++ {
			if _, err := th.thaw(t, c.state[:n], c.files, ""); !errors.Is(err, pack.ErrMalformed) {
				t.Errorf("%s, %d of %d bytes: %v", name, n, len(c.state), err)
			}
		}
		if c.state != nil {
			bad[name+" and more"] = struct {
				state []byte
				files int
			}{append(slices.Clone(c.state), 0), c.files}
		}
	}
	for name, c := range bad {
		if _, err := th.thaw(t, c.state, c.files, ""); err == nil {
			t.Errorf("%s was thawed", name)
		}
	}
	th.do(func() {
		if th.loop.Open() != 0 {
			t.Errorf("%d are open", th.loop.Open())
		}
	})
}

// FuzzThaw: no state makes it panic, at once or with what the client sends then, or
// keep a descriptor.
func FuzzThaw(f *testing.F) {
	for _, c := range frozen {
		f.Add(c.state, uint8(c.files), "hello\r\n0\r\n\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n")
	}
	for _, c := range golden(f, formReading) {
		f.Add(c.state, uint8(c.files), "GET / HTTP/1.1\r\nHost: h\r\n\r\n")
	}
	th := newThawer(f)
	f.Fuzz(func(t *testing.T, state []byte, n uint8, in string) {
		if len(in) < 10_000 {
			_, _ = th.thaw(t, state, int(n%4), in)
		}
	})
}

// golden returns the states in a golden file.
func golden(t testing.TB, form string) (all []frozenState) {
	t.Helper()
	text, err := os.ReadFile("testdata/formats/" + form)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		var n int
		var state string
		if _, err := fmt.Sscanf(line, "%d %q", &n, &state); err != nil {
			t.Fatalf("%s: %q: %v", form, line, err)
		}
		all = append(all, frozenState{[]byte(state), n})
	}
	if len(all) == 0 {
		t.Fatalf("%s has no states", form)
	}
	return all
}

type frozenState struct {
	state []byte
	files int
}

// What a release has ever written is read for ever, and the form that can express a thing is written as it
// was: by golden files, which never change.
func TestFormsOfReleases(t *testing.T) {
	th := newThawer(t)
	for _, c := range golden(t, formReading) {
		if again, err := th.thaw(t, c.state, c.files, ""); err != nil || !bytes.Equal(again, c.state) {
			t.Errorf("%q: %v, and then %q", c.state, err, again)
		}
	}
	text, err := os.ReadFile("testdata/formats/" + formRelay + ".meaning") // as that release understood them
	if err != nil {
		t.Fatal(err)
	}
	meaning := strings.Split(string(text), "\n")
	for i, c := range golden(t, formRelay) {
		var e exchange
		if again, err := recordAgain(c.state, e.record); err != nil || !bytes.Equal(again, c.state) {
			t.Errorf("%q: %v, and then %q", c.state, err, again)
		}
		if got := e.String(); got != meaning[i] {
			t.Errorf("%q is read as\n%s\nand was\n%s", c.state, got, meaning[i])
		}
	}
}

func (e *exchange) String() string {
	chunks := func(k *h1.Chunks, end bool) string { return fmt.Sprint(k.Step, k.Left, k.Total, k.Lines, end) }
	return fmt.Sprintf("head %d, body %d, read %t, whole %t, last %t, used %t, failed %d, begun %t, scan %d, answered %t, status %d, "+
		"framing %d, bare %t, reuse %t, closing %t, left %d, content %d, request %s, answer %s",
		e.head, len(e.raw)-e.head, e.state.Read, e.relay.Whole, e.state.Last, e.relay.Used, e.relay.Failed, e.call.Begun, e.call.Scan, e.answer == 1, e.state.Status,
		e.framing, e.state.Bare, e.call.Reuse, e.state.Closing, e.call.Left, e.state.Content,
		chunks(&e.state.Body, e.call.Coding.Last), chunks(&e.call.Body, e.state.Coding.Last))
}

// recordAgain reads a record and writes it.
func recordAgain(b []byte, record func(*pack.Record)) ([]byte, error) {
	r := pack.Reading(b)
	if record(r); r.End() != nil {
		return nil, r.End()
	}
	w := pack.Writing(nil)
	record(w)
	return w.Written(), nil
}

// FuzzExchange: no bytes make the record of an exchange read what it would not write, or a number that is
// out of its bounds.
func FuzzExchange(f *testing.F) {
	for _, c := range golden(f, formRelay) {
		f.Add(c.state)
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		var e, same exchange
		out, err := recordAgain(in, e.record)
		if err != nil {
			return
		}
		if again, err := recordAgain(out, same.record); err != nil || !bytes.Equal(again, out) {
			t.Fatalf("%q became %q, then %q: %v", in, out, again, err)
		}
		if e.head < 0 || e.call.Scan < 0 || e.call.Left < -1 || e.state.Content < 0 || e.state.Body.Left < 0 || e.call.Body.Total < 0 ||
			e.state.Body.Step > h1.Done || h1.Framing(e.framing) > h1.ToClose {
			t.Fatalf("%q is read as %+v", in, e)
		}
	})
}
