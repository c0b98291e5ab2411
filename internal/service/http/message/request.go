package message

// Request is a request head: one that was parsed, or one that is made for a server. Slices of a parsed
// one lie in the input and are valid only until the handler returns.
type Request struct {
	Method []byte
	Target []byte // as it came, for the access log
	Host   []byte // in lower case, without port; empty for HTTP/1.0 without Host
	Path   []byte // decoded, dot segments removed; begins with "/", or is "*"
	Query  []byte // behind "?", as it came; nil if there is no "?"
	Minor  byte   // of HTTP/1.minor: 0 or 1

	KeepAlive bool  // the client keeps the connection
	Length    int64 // Content-Length; 0 if there is none
	HasLength bool
	Chunked   bool
	Expect    bool // 100-continue

	// For passing the request on.
	Lines       []byte // the fields, each valid and with its CRLF
	Authority   []byte // host and port as they came; those in the target if it has them
	Sent        []byte // the path as it came, without dot segments
	Resolved    bool   // there were dot segments
	MoreOptions int    // options in Connection beyond those known here
	Upgrade     bool   // Upgrade to a protocol for which a tunnel is made
	Trailers    bool   // TE: trailers

	// For a request that is made here: Told are field lines after Lines, Set are those after the
	// fields that frame the body.
	Told, Set []byte

	// Fields that services read; nil if absent. Fields of the same name are not joined: the
	// first one counts.
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
