package shard

import (
	"encoding/binary"
	"errors"
	"testing"

	"golang.org/x/sys/unix"
)

func TestDiagAnswersAreChecked(t *testing.T) {
	message := func(typ, claimed int, body []byte) []byte {
		b := make([]byte, unix.SizeofNlMsghdr, unix.SizeofNlMsghdr+len(body))
		binary.NativeEndian.PutUint32(b, uint32(claimed))
		binary.NativeEndian.PutUint16(b[4:], uint16(typ))
		return append(b, body...)
	}
	denied := binary.NativeEndian.AppendUint32(nil, uint32(0xffffffff-uint32(unix.EACCES)+1))
	never := func(p pair) { t.Errorf("found %v", p) }
	if done, err := eachDiag(message(unix.NLMSG_DONE, 20, make([]byte, 4)), unix.AF_INET, never); !done || err != nil {
		t.Errorf("done: %v, %v", done, err)
	}
	if _, err := eachDiag(message(unix.NLMSG_ERROR, 20, denied), unix.AF_INET, never); !errors.Is(err, unix.EACCES) {
		t.Errorf("error: %v", err)
	}
	for name, b := range map[string][]byte{
		"longer than it is": message(sockDiagByFamily, 17, nil),
		"shorter than can":  message(sockDiagByFamily, 15, nil),
		"no error number":   message(unix.NLMSG_ERROR, 16, nil),
		"no socket":         message(sockDiagByFamily, 16+diagIDLen, make([]byte, diagIDLen)),
	} {
		if _, err := eachDiag(b, unix.AF_INET, never); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
