package http

// request is one parsed request head (RFC 9112). Its slices lie in the input
// and are valid only until the handler returns.
type request struct {
	method []byte
	target []byte // as it came, for the access log
	host   []byte // lower case, without port; empty in HTTP/1.0 without Host
	path   []byte // decoded, dot segments removed; begins with "/", or is "*"
	query  []byte // behind "?", as it came; nil if there is no "?"
	minor  byte   // of HTTP/1.minor: 0 or 1

	keepAlive bool  // the client lets the connection live
	length    int64 // Content-Length; 0 if there is none
	hasLength bool
	chunked   bool
	expect    bool // 100-continue

	// For passing the request on.
	lines     []byte // the fields, each good and with its CRLF
	authority []byte // host and port as they came, in the target if it has them
	sent      []byte // the path as it came, but for dot segments
	resolved  bool   // there were some
	options   int    // in Connection, but for those that are known here
	upgrade   bool   // to a protocol that a tunnel is made for
	trailers  bool   // TE: trailers

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
