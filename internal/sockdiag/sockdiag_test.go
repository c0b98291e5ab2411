package sockdiag

import (
	"encoding/binary"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestAnswersAreChecked(t *testing.T) {
	message := func(typ, claimed int, body []byte) []byte {
		b := make([]byte, unix.SizeofNlMsghdr, unix.SizeofNlMsghdr+len(body))
		binary.NativeEndian.PutUint32(b, uint32(claimed))
		binary.NativeEndian.PutUint16(b[4:], uint16(typ))
		return append(b, body...)
	}
	number := func(e unix.Errno) []byte { return binary.NativeEndian.AppendUint32(nil, uint32(-int32(e))) }
	never := func(body []byte) error { t.Errorf("found %v", body); return nil }
	if done, err := each(message(unix.NLMSG_DONE, 20, make([]byte, 4)), never); !done || err != nil {
		t.Errorf("done: %v, %v", done, err)
	}
	for _, typ := range []int{unix.NLMSG_ERROR, unix.NLMSG_DONE} {
		if done, err := each(message(typ, 20, number(unix.EACCES)), never); !done || !errors.Is(err, unix.EACCES) {
			t.Errorf("error: %v, %v", done, err)
		}
	}
	_, err := each(message(unix.NLMSG_ERROR, 20, number(unix.ENOENT)), never)
	if err == nil || !strings.Contains(err.Error(), "this kernel has no") {
		t.Errorf("a kernel without it: %v", err)
	}
	for name, b := range map[string][]byte{
		"longer than it is": message(sockDiagByFamily, 17, nil),
		"shorter than can":  message(sockDiagByFamily, 15, nil),
		"no error number":   message(unix.NLMSG_ERROR, 16, nil),
	} {
		if _, err := each(b, never); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	for name, parse := range map[string]func([]byte) (Socket, error){"tcp": parseTCP, "unix": parseUnix} {
		whole := map[string]int{"tcp": tcpMessageLen, "unix": unixMessageLen}[name]
		for _, b := range [][]byte{make([]byte, whole-1), append(make([]byte, whole), 3, 0, 1, 0), append(make([]byte, whole), 9, 0, 1, 0)} {
			if _, err := parse(b); err == nil {
				t.Errorf("%s: %v: no error", name, b)
			}
		}
		// Values that are shorter than they should be, or of a kind that a later kernel has.
		for kind := range uint16(64) {
			b := binary.NativeEndian.AppendUint16(append(make([]byte, whole), 5, 0), kind)
			if _, err := parse(append(b, 1)); err != nil {
				t.Errorf("%s: attribute %d: %v", name, kind, err)
			}
		}
	}
}

func FuzzAnswers(f *testing.F) {
	f.Add(message(make([]byte, tcpMessageLen+8)))
	f.Fuzz(func(t *testing.T, b []byte) {
		_, _ = each(b, func(body []byte) error {
			_, err := parseTCP(body)
			_, uerr := parseUnix(body)
			return errors.Join(err, uerr)
		})
	})
}

func TestTCPListeners(t *testing.T) {
	for _, network := range []string{"tcp4", "tcp6"} {
		address := map[string]string{"tcp4": "127.0.0.1:0", "tcp6": "[::1]:0"}[network]
		family := map[string]uint8{"tcp4": unix.AF_INET, "tcp6": unix.AF_INET6}[network]
		var plain net.ListenConfig
		plain.SetMultipathTCP(false) // whose listening socket is one within another
		l, err := plain.Listen(t.Context(), network, address)
		must(t, err)
		defer l.Close()
		client, err := net.Dial(network, l.Addr().String()) // has the port too, and doesn't listen
		must(t, err)
		defer client.Close()
		want := l.Addr().(*net.TCPAddr).AddrPort()
		fd := descriptor(t, l.(*net.TCPListener))
		cookie, err := unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_COOKIE)
		must(t, err)
		exclusive := func(on int) {
			must(t, unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT, on))
		}
		for on := range 2 {
			exclusive(on)
			var found []Socket
			must(t, TCP(family, Listen, want.Port(), func(s Socket) { found = append(found, s) }))
			inTable := 0
			must(t, Listening().Each(family, want.Port(), func(s Socket) { inTable++ }))
			if len(found) != 1 || inTable != 1 {
				t.Fatalf("%s: found %+v", network, found)
			}
			s := found[0]
			if s.Local != want || s.Cookie != cookie || int(s.UID) != os.Getuid() || s.Interface != 0 || s.Exclusive != (on == 1) {
				t.Errorf("%s: found %+v, want %s with cookie %d, mark %d", network, s, want, cookie, on)
			}
			hs := Holders(found)
			if len(hs) != 1 || hs[0].PID != os.Getpid() || !strings.Contains(hs[0].String(), filepath.Base(os.Args[0])) {
				t.Errorf("%s: held by %v, want this process, %d", network, hs, os.Getpid())
			}
		}
	}
}

func TestUnixListeners(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	must(t, err)
	defer unix.Close(fd)
	must(t, unix.Bind(fd, &unix.SockaddrUnix{Name: path}))
	cookie, err := unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_COOKIE)
	must(t, err)
	var st unix.Stat_t
	must(t, unix.Lstat(path, &st))
	for _, when := range []string{"bound", "listening"} {
		var found []Socket
		must(t, Unix(func(s Socket) {
			if s.Path == path {
				found = append(found, s)
			}
		}))
		if len(found) != 1 || found[0].Cookie != cookie || found[0].Ino != st.Ino&0xffffffff {
			t.Errorf("%s: found %+v, want cookie %d, file %d", when, found, cookie, st.Ino)
		}
		if hs := Holders(found); len(hs) != 1 || hs[0].PID != os.Getpid() {
			t.Errorf("%s: held by %v", when, hs)
		}
		must(t, unix.Listen(fd, 1))
	}
}

// A socket whose process can't be seen is told by user and inode.
func TestHolderThatCantBeSeen(t *testing.T) {
	hs := Holders([]Socket{{Inode: 1, UID: 33}, {Inode: 2, UID: 33}, {Inode: 3, UID: 34}})
	if len(hs) != 2 || hs[0].String() != "a process that can't be seen from here (uid 33, socket inode 1)" {
		t.Errorf("held by %v", hs)
	}
}

func descriptor(t *testing.T, l *net.TCPListener) int {
	t.Helper()
	raw, err := l.SyscallConn()
	must(t, err)
	var n int
	must(t, raw.Control(func(fd uintptr) { n = int(fd) }))
	return n
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func BenchmarkOnePort(b *testing.B) {
	for b.Loop() {
		if err := TCP(unix.AF_INET, Listen, 1, func(Socket) {}); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkListening(b *testing.B) {
	for b.Loop() {
		if t := Listening(); t.errs[0] != nil {
			b.Fatal(t.errs[0])
		}
	}
}
