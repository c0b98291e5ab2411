package message

// Request is a request head: one that was parsed, or one that is made to be sent on. Slices of a parsed
// one lie in the input and are valid only until the handler returns.
type Request struct {
	Method []byte
	Target []byte // as it came, for the access log
	Host   []byte // lower case, without port; empty in HTTP/1.0 without Host
	Path   []byte // decoded, dot segments removed; begins with "/", or is "*"
	Query  []byte // behind "?", as it came; nil if there is no "?"
	Minor  byte   // of HTTP/1.minor: 0 or 1

	KeepAlive bool  // the client lets the connection live
	Length    int64 // Content-Length; 0 if there is none
	HasLength bool
	Chunked   bool
	Expect    bool // 100-continue

	// For passing the request on.
	Lines       []byte // the fields, each good and with its CRLF
	Authority   []byte // host and port as they came, in the target if it has them
	Sent        []byte // the path as it came, but for dot segments
	Resolved    bool   // there were some
	MoreOptions int    // in Connection, but for those that are known here
	Upgrade     bool   // to a protocol that a tunnel is made for
	Trailers    bool   // TE: trailers

	// Of one that is made here: field lines behind Lines and those that say where the body ends, and
	// others behind all.
	Told, Set []byte

	// Fields that services read; nil when absent. Several fields of one name
	// that may be lists are not joined: the first one counts, more is set.
	RangeField        []byte
	IfRange           []byte
	IfMatch           []byte
	IfNoneMatch       []byte
	IfModifiedSince   []byte
	IfUnmodifiedSince []byte
	Referer           []byte
	UserAgent         []byte
}

// IsGet and IsHead report whether the method is GET or HEAD.
func (r *Request) IsGet() bool  { return string(r.Method) == "GET" }
func (r *Request) IsHead() bool { return string(r.Method) == "HEAD" }
