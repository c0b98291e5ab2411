package message

// Response is a response head: one that a server sent, or one that is made for a client. Slices of a parsed
// one lie in the input and are valid only until the handler returns.
type Response struct {
	Status int
	Minor  byte   // of HTTP/1.minor: 0 or 1
	Phrase []byte // the reason
	Lines  []byte // the fields, each valid and with its CRLF

	// For a response that is made here, whose Lines are then sent as they are:
	Set   []byte // field lines behind Lines and those that the framing writes
	Dated bool   // it has a Date, or must not get one
	Local bool   // it is this server's own answer, with Length bytes of content

	KeepAlive   bool
	Length      int64 // Content-Length; -1 if there is none
	Chunked     bool
	Upgrade     bool    // Upgrade, and Connection names it
	MoreOptions int     // options in Connection beyond those known here
	Named       Options // their names, if they were read
}

// ReadFields reads field lines, and decides how the message is framed. It returns false
// if they are malformed.
func (r *Response) ReadFields(lines []byte) bool {
	r.Lines = lines
	var lengths, codings int
	var closes, keeps, upgrades, protocol bool
	for len(lines) > 0 {
		name, value, rest, ok := cutField(lines)
		if !ok {
			return false
		}
		lines = rest
		switch len(name) {
		case 7:
			protocol = protocol || Same(name, "upgrade") && len(value) > 0
		case 10:
			if !Same(name, "connection") {
				continue
			}
			for len(value) > 0 {
				var option []byte
				switch option, value = cutMember(value); {
				case Same(option, "close"):
					closes = true
				case Same(option, "keep-alive"):
					keeps = true
				case Same(option, "upgrade"):
					upgrades = true
				case len(option) > 0:
					r.MoreOptions++
				}
			}
		case 14:
			if Same(name, "content-length") {
				lengths++
				if r.Length, ok = parseLength(value); !ok {
					return false
				}
			}
		case 17:
			if Same(name, "transfer-encoding") {
				codings++
				r.Chunked = Same(value, "chunked")
			}
		}
	}
	r.KeepAlive = !closes && (r.Minor == 1 || keeps)
	r.Upgrade = upgrades && protocol
	// Refused: two lengths, a coding beside a length, two codings, any coding but chunked,
	// and a coding in HTTP/1.0.
	return lengths+codings <= 1 && (codings == 0 || r.Chunked && r.Minor == 1)
}
