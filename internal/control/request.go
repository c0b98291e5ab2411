package control

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

const (
	maxLine  = 64 << 10 // bytes of a request, its newline included
	maxCause = 256      // bytes of Request.Cause
)

// Commands are what a Request may ask for.
var Commands = []string{"status", "reload", "upgrade", "stop", "drained", "takeover"}

var errTooLong = fmt.Errorf("the request has more than %d bytes", maxLine)

// readLine returns the next line without its newline. On an error it returns
// what was read. r's buffer must hold maxLine bytes; the line is valid until
// the next read.
func readLine(r *bufio.Reader) ([]byte, error) {
	line, err := r.ReadSlice('\n')
	if errors.Is(err, bufio.ErrBufferFull) {
		return line, errTooLong
	}
	if err != nil {
		return line, err
	}
	return line[:len(line)-1], nil
}

// ParseRequest reads one line. Unknown members are ignored: a client may be newer than
// the master.
func ParseRequest(line []byte) (Request, error) {
	var req Request
	if err := json.Unmarshal(line, &req); err != nil {
		return Request{}, fmt.Errorf("the request is not understood: %w", err)
	}
	for _, c := range Commands {
		if req.Command == c {
			if err := checkCause(req.Cause); err != nil {
				return Request{}, err
			}
			return req, nil
		}
	}
	return Request{}, fmt.Errorf("unknown command %.40q: there are %s", req.Command, strings.Join(Commands, ", "))
}

// checkCause returns an error unless a text may be shown in logs and on terminals.
func checkCause(cause string) error {
	if len(cause) > maxCause {
		return fmt.Errorf("the cause has %d bytes, more than %d", len(cause), maxCause)
	}
	if !utf8.ValidString(cause) || strings.ContainsFunc(cause, unicode.IsControl) {
		return fmt.Errorf("the cause %.80q is not plain text", cause)
	}
	return nil
}
