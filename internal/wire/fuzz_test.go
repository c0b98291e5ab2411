package wire

import (
	"errors"
	"testing"
)

// FuzzDecode holds that any datagram is either one message, whose header says
// what it has, or one of the errors that Recv promises.
func FuzzDecode(f *testing.F) {
	f.Add([]byte{}, 0)
	f.Add(append(header{Version, KindLend, 1, 2}.appendTo(nil), "{}"...), 1)
	f.Add(append(header{Version + 1, KindLend, 0, 2}.appendTo(nil), "{}"...), 0)
	f.Add(append(header{Version, 999, 300, 1}.appendTo(nil), "x"...), 300)
	f.Fuzz(func(t *testing.T, b []byte, fds int) {
		if fds < 0 || fds > 2*MaxFDs {
			return
		}
		m, err := decode(b, make([]int, fds))
		_, unknown := IsUnknown(err)
		switch {
		case err == nil:
			if len(m.Body) != len(b)-headerSize || len(m.FDs) != fds || fds > MaxFDs || !m.Kind.Known() {
				t.Errorf("%d bytes and %d descriptors made %+v", len(b), fds, m)
			}
			h := header{m.Version, m.Kind, fds, len(m.Body)}
			if got := append(h.appendTo(nil), m.Body...); string(got) != string(b) {
				t.Errorf("%q was read as %q", b, got)
			}
			var start Start
			_ = m.Decode(&start)
		case m.FDs != nil:
			t.Errorf("descriptors with %v", err)
		case !unknown && !errors.Is(err, ErrMalformed):
			t.Errorf("unexpected error %v", err)
		}
	})
}
