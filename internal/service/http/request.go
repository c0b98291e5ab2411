package http

// request is one parsed request head (RFC 9112). Its slices lie in the input
// and are valid only until the handler returns.
type request struct {
	method []byte
	target []byte // as it came, for the access log
	host   []byte // lower case, without port; empty in HTTP/1.0 without Host
	path   []byte // decoded, dot segments removed; begins with "/", or is "*"
	query  []byte // behind "?", as it came
	minor  byte   // of HTTP/1.minor: 0 or 1

	keepAlive bool  // the client lets the connection live
	length    int64 // Content-Length; 0 if there is none
	chunked   bool
	expect    bool // 100-continue

	// Fields that services read; nil when absent. Several fields of one name
	// that may be lists are not joined: the first one counts, more is set.
	rangeField        []byte
	ifRange           []byte
	ifMatch           []byte
	ifNoneMatch       []byte
	ifModifiedSince   []byte
	ifUnmodifiedSince []byte
	referer           []byte
	userAgent         []byte
}

func (r *request) isGet() bool  { return string(r.method) == "GET" }
func (r *request) isHead() bool { return string(r.method) == "HEAD" }
