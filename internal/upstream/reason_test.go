package upstream

import (
	"testing"

	"golang.org/x/sys/unix"
)

func TestReasons(t *testing.T) {
	for errno, want := range map[unix.Errno]Reason{
		unix.ECONNREFUSED: Refused, unix.ETIMEDOUT: ConnectTimeout, unix.EHOSTUNREACH: Unreachable,
		unix.EPIPE: Reset, unix.ENOENT: NoSocket, unix.EAGAIN: QueueFull, unix.EACCES: Denied,
		unix.EMFILE: NoDescriptors, unix.EADDRNOTAVAIL: NoPorts, unix.EXDEV: Other, 0: Other,
	} {
		got := ReasonOf(errno)
		if got != want || got.Local() != (want == NoDescriptors || want == NoPorts) {
			t.Errorf("%v: %s, want %s", errno, got, want)
		}
	}
	texts := make(map[string]Reason)
	for r := range Reason(Reasons) {
		if before, twice := texts[r.String()]; twice || r.String() == "" {
			t.Errorf("reasons %d and %d are both %q", before, r, r)
		}
		texts[r.String()] = r
	}
	if got := Reason(200).String(); got != "failed" {
		t.Errorf("a reason of a later release is %q", got)
	}
}
