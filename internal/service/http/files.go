package http

import (
	"fmt"
	"net/http"
	"time"

	"golang.org/x/sys/unix"

	"reuseportd/internal/config"
)

type root struct{}

func openRoot(*config.Files) (*root, error) { return &root{}, nil }
func (r *root) Close()                       {}
func (r *root) plan(req *request, rel []byte, now time.Time, p *answer) { p.fail(404) }

type part struct {
	head   []byte
	off, n int64
}
type answer struct {
	status int
	fields []byte
	length int64
	body   []byte
	fd     int
	off, n int64
	parts  []part
	tail   []byte
}

func (p *answer) reset() { *p = answer{fields: p.fields[:0], fd: -1} }
func (p *answer) fail(s int) {
	p.status = s
	p.body = []byte(fmt.Sprintf("%d %s\n", s, reason(s)))
	p.length = int64(len(p.body))
	p.fields = append(p.fields[:0], "Content-Type: text/plain; charset=utf-8\r\n"...)
}
func reason(s int) string { return http.StatusText(s) }
func appendHTTPDate(dst []byte, t time.Time) []byte {
	return t.UTC().AppendFormat(dst, http.TimeFormat)
}
func dup(fd int) (int, error) { return unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 3) }
