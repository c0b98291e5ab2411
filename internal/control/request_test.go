package control

import (
	"bufio"
	"bytes"
	"encoding/json"
	"runtime"
	"slices"
	"testing"
	"testing/iotest"
)

func lockThread() { runtime.LockOSThread() }

// FuzzRequest feeds what a client sent, byte by byte. Whatever is accepted is
// a known command with a plain cause, and means the same when written again.
func FuzzRequest(f *testing.F) {
	f.Add([]byte(`{"command":"status","cause":"a person"}` + "\n"))
	f.Add([]byte("{\"command\":\"reload\"}\n{\"command\":\"upgrade\"}\n"))
	f.Add([]byte(`{"command":"stop"`))
	f.Add([]byte("\n\r\n\x00"))
	f.Add([]byte(`{"command":"status","cause":"\u001b[2J"}` + "\n"))
	f.Fuzz(func(t *testing.T, in []byte) {
		r := bufio.NewReaderSize(iotest.OneByteReader(bytes.NewReader(in)), maxLine)
		read := 0
		for {
			line, err := readLine(r)
			read += len(line)
			if err != nil {
				break
			}
			read++
			if bytes.IndexByte(line, '\n') >= 0 || len(line) >= maxLine {
				t.Fatalf("a line of %d bytes: %.80q", len(line), line)
			}
			check(t, line)
		}
		if read != len(in) && read != maxLine {
			t.Fatalf("%d of %d bytes were read", read, len(in))
		}
	})
}

func check(t *testing.T, line []byte) {
	req, err := ParseRequest(line)
	if err != nil {
		if req != (Request{}) {
			t.Fatalf("%q was refused with %v, though %+v came of it", line, err, req)
		}
		return
	}
	if !slices.Contains(Commands, req.Command) || checkCause(req.Cause) != nil {
		t.Fatalf("%q was accepted as %+v", line, req)
	}
	again, err := json.Marshal(req)
	if err != nil {
		t.Fatal(err)
	}
	if back, err := ParseRequest(again); err != nil || back != req {
		t.Fatalf("%q came back as %+v, %v", again, back, err)
	}
}
