package accesslog

import (
	"net/netip"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"reuseportd/internal/service/http/message"
	"reuseportd/internal/tls/info"
)

// flushEvery is how long a line may wait to be written.
const flushEvery = 50 * time.Millisecond

// Log writes the lines of all loops of a site. It has one goroutine, which alone touches
// the file; lines of a loop that it can't keep up with are dropped and counted.
type Log struct {
	fd      int
	format  string
	lost    atomic.Uint64      // lines that could not be written, and are not in a loop's counters yet
	dropped atomic.Uint64      // all lines that are not in the file
	tell    func(lines uint64) // reports them
	told    uint64             // those that tell has been called for
	toldAt  time.Time          // …and when

	mu    sync.Mutex
	rings []*ring // guarded by mu

	stop chan struct{}
	done chan struct{}
}

// tellEvery is how often tell is called at most.
const tellEvery = 5 * time.Second

// New begins a log in a descriptor, which is only lent. The format is "json", or else the combined log
// format. When lines can be written again after some were dropped, tell is called with their number,
// on the log's goroutine.
func New(fd int, format string, tell func(lines uint64)) *Log {
	a := &Log{fd: fd, format: format, tell: tell, stop: make(chan struct{}), done: make(chan struct{})}
	go a.run()
	return a
}

func (a *Log) run() {
	defer close(a.done)
	tick := time.NewTicker(flushEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			a.flush()
		case <-a.stop:
			a.flush()
			return
		}
	}
}

func (a *Log) flush() {
	a.mu.Lock()
	defer a.mu.Unlock()
	flows := true
	for _, r := range a.rings {
		if lost := r.flush(a.fd); lost > 0 {
			a.lost.Add(lost)
			a.dropped.Add(lost)
			flows = false
		}
	}
	if n := a.dropped.Load(); flows && n > a.told && a.tell != nil && time.Since(a.toldAt) >= tellEvery {
		a.tell(n - a.told)
		a.told, a.toldAt = n, time.Now()
	}
}

// lastWrite bounds how long the end of a process waits for a log that takes
// nothing, such as a pipe that nobody reads.
const lastWrite = 2 * time.Second

// Close writes the lines that wait, and ends the goroutine.
func (a *Log) Close() {
	close(a.stop)
	select {
	case <-a.done:
	case <-time.After(lastWrite):
	}
}

// Writer adds one loop's lines to a log. It may be used by that loop alone; nil discards
// everything.
type Writer struct {
	log  *Log
	ring *ring
	line []byte
}

// Writer returns the writer for another loop.
func (a *Log) Writer() *Writer {
	if a == nil {
		return nil
	}
	w := &Writer{log: a, ring: newRing()}
	a.mu.Lock()
	a.rings = append(a.rings, w.ring)
	a.mu.Unlock()
	return w
}

// Line is what a line tells besides the request.
type Line struct {
	From   netip.AddrPort
	At     time.Time
	Status int
	Size   int64         // of the content, in bytes
	TLS    *info.Session // nil if the connection is plain
}

// Request adds the line of a request that was answered. It
// returns how many lines were dropped, this one or earlier ones.
func (w *Writer) Request(r *message.Request, l Line) (dropped uint64) {
	if r.IsHead() {
		l.Size = 0
	}
	if w.log.format == "json" {
		w.line = appendJSON(w.line[:0], r, &l)
	} else {
		w.line = appendCombined(w.line[:0], r, &l)
	}
	if !w.ring.put(w.line) {
		dropped++
		w.log.dropped.Add(1)
	}
	return dropped + w.log.lost.Swap(0)
}

// appendCombined appends a line of the combined log format, as Apache and nginx
// write it. Bytes that could end or disguise a line are escaped.
func appendCombined(b []byte, r *message.Request, l *Line) []byte {
	b = appendAddr(b, l.From)
	b = append(b, " - - ["...)
	b = l.At.AppendFormat(b, "02/Jan/2006:15:04:05 -0700")
	b = append(b, `] "`...)
	b = appendEscaped(b, r.Method)
	b = append(b, ' ')
	b = appendEscaped(b, r.Target)
	b = append(b, " HTTP/1."...)
	b = append(b, '0'+r.Minor, '"', ' ')
	b = strconv.AppendInt(b, int64(l.Status), 10)
	b = append(b, ' ')
	b = strconv.AppendInt(b, l.Size, 10)
	b = append(b, ` "`...)
	b = appendEscaped(b, dash(r.Referer))
	b = append(b, `" "`...)
	b = appendEscaped(b, dash(r.UserAgent))
	return append(b, "\"\n"...)
}

// appendJSON appends one JSON object and a line feed.
func appendJSON(b []byte, r *message.Request, l *Line) []byte {
	b = append(b, `{"time":"`...)
	b = l.At.UTC().AppendFormat(b, "2006-01-02T15:04:05.000Z")
	b = append(b, `","remote":"`...)
	b = appendAddr(b, l.From)
	b = append(b, `","host":"`...)
	b = appendJSONString(b, r.Host)
	b = append(b, `","method":"`...)
	b = appendJSONString(b, r.Method)
	b = append(b, `","target":"`...)
	b = appendJSONString(b, r.Target)
	b = append(b, `","proto":"HTTP/1.`...)
	b = append(b, '0'+r.Minor)
	b = append(b, `","status":`...)
	b = strconv.AppendInt(b, int64(l.Status), 10)
	b = append(b, `,"bytes":`...)
	b = strconv.AppendInt(b, l.Size, 10)
	b = append(b, `,"referer":"`...)
	b = appendJSONString(b, r.Referer)
	b = append(b, `","user_agent":"`...)
	b = appendJSONString(b, r.UserAgent)
	b = append(b, '"')
	if l.TLS != nil {
		b = appendTLS(b, l.TLS)
	}
	return append(b, "}\n"...)
}

// appendTLS appends what is known of a session as one member.
func appendTLS(b []byte, s *info.Session) []byte {
	b = append(b, `,"tls":{"version":"`...)
	b = append(b, s.VersionName()...)
	b = append(b, `","cipher":"`...)
	b = append(b, s.SuiteName()...)
	b = append(b, `","resumed":`...)
	b = strconv.AppendBool(b, s.Resumed)
	b = append(b, `,"server_name":"`...)
	b = appendJSONText(b, s.ServerName)
	if s.Subject != "" {
		b = append(b, `","client_subject":"`...)
		b = appendJSONText(b, s.Subject)
	}
	return append(b, `"}`...)
}

// appendJSONText is appendJSONString for a string.
func appendJSONText(b []byte, v string) []byte {
	return appendJSONString(b, unsafe.Slice(unsafe.StringData(v), len(v))) // which only reads it
}

// appendAddr appends the client's address without its port, "unix:" for a Unix
// socket's.
func appendAddr(b []byte, addr netip.AddrPort) []byte {
	if !addr.IsValid() {
		return append(b, "unix:"...)
	}
	return addr.Addr().Unmap().AppendTo(b)
}

var minus = []byte("-")

func dash(v []byte) []byte {
	if len(v) == 0 {
		return minus
	}
	return v
}

const hexDigits = "0123456789abcdef"

// appendEscaped appends v with `"`, `\` and all bytes that don't print as \xHH.
func appendEscaped(b, v []byte) []byte {
	for _, c := range v {
		if c < ' ' || c >= 0x7f || c == '"' || c == '\\' {
			b = append(b, '\\', 'x', hexDigits[c>>4], hexDigits[c&15])
			continue
		}
		b = append(b, c)
	}
	return b
}

// appendJSONString appends the inside of a JSON string. Bytes beyond ASCII are
// given as the code points of Latin-1, whatever they were meant to be: the
// result is valid, and nothing is lost.
func appendJSONString(b, v []byte) []byte {
	for _, c := range v {
		switch {
		case c == '"' || c == '\\':
			b = append(b, '\\', c)
		case c < ' ' || c >= 0x7f:
			b = append(b, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
		default:
			b = append(b, c)
		}
	}
	return b
}
