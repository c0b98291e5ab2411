package files

import (
	"time"

	"golang.org/x/sys/unix"

	"reuseportd/internal/service/http/message"
)

// validators are that by which a client's copy of a file is compared with the file.
type validators struct {
	etag     []byte // strong, with its quotes
	modified int64  // Unix seconds, never in the future (RFC 9110 section 8.8.2.1)
	// strong says that the second of modified is over, so that no other content can get
	// the same date (section 8.8.2.2).
	strong bool
}

// clockTick bounds how far a file's time, which the kernel sets, may lag behind the
// clock: CONFIG_HZ is 100 or more.
const clockTick = 10 * time.Millisecond

// validatorsOf returns the validators of a file whose state was read at now or later.
func validatorsOf(etag []byte, st *unix.Stat_t, now time.Time) validators {
	return validators{
		etag: etag, modified: min(st.Mtim.Sec, now.Unix()),
		strong: now.Sub(time.Unix(st.Mtim.Sec+1, 0)) > clockTick,
	}
}

// evaluate evaluates the preconditions in the order of RFC 9110 section 13.2.2. It
// returns 412, 304, or 0 if they hold.
func (v *validators) evaluate(q *message.Request) int {
	switch {
	case q.IfMatch != nil:
		if !v.listed(q.IfMatch, false) {
			return 412
		}
	case q.IfUnmodifiedSince != nil:
		if sec, ok := message.ParseHTTPDate(q.IfUnmodifiedSince); ok && v.modified > sec {
			return 412
		}
	}
	switch {
	case q.IfNoneMatch != nil:
		if v.listed(q.IfNoneMatch, true) {
			return 304
		}
	case q.IfModifiedSince != nil:
		if sec, ok := message.ParseHTTPDate(q.IfModifiedSince); ok && v.modified <= sec {
			return 304
		}
	}
	return 0
}

// mayRange evaluates If-Range, RFC 9110 section 13.1.5: a strong tag, or exactly
// the date that was sent, if that is strong.
func (v *validators) mayRange(q *message.Request) bool {
	if q.IfRange == nil {
		return true
	}
	if string(q.IfRange) == string(v.etag) {
		return true
	}
	sec, ok := message.ParseHTTPDate(q.IfRange)
	return ok && v.strong && sec == v.modified
}

// listed reports whether a list of entity tags has the file's, or is "*". weak says
// whether a tag marked W/ matches as well (RFC 9110 section 8.8.3.2).
func (v *validators) listed(list []byte, weak bool) bool {
	if len(list) == 1 && list[0] == '*' {
		return true
	}
	for {
		for len(list) > 0 && (list[0] == ' ' || list[0] == '\t' || list[0] == ',') {
			list = list[1:]
		}
		tag, rest, marked, ok := cutETag(list)
		switch {
		case !ok:
			return false
		case string(tag) == string(v.etag) && (weak || !marked):
			return true
		}
		list = rest
	}
}

// cutETag takes one entity tag off a list, RFC 9110 section 8.8.3.
func cutETag(list []byte) (tag, rest []byte, weak, ok bool) {
	if len(list) > 2 && list[0] == 'W' && list[1] == '/' {
		weak, list = true, list[2:]
	}
	if len(list) < 2 || list[0] != '"' {
		return nil, nil, false, false
	}
	for i := 1; i < len(list); i++ {
		switch c := list[i]; {
		case c == '"':
			return list[:i+1], list[i+1:], weak, true
		case c <= ' ' || c == 0x7f:
			return nil, nil, false, false
		}
	}
	return nil, nil, false, false
}
