package services

import (
	"fmt"
	"strings"
	"testing"
)

// A session says back what it is told, while keys are exchanged anew, and its shell
// is the same at the end as at the beginning.
func TestSSH(t *testing.T) {
	s := StartSSH(t)
	through(t, s.Address(), "tcp: {upstream: behind}", func(t *testing.T, f front) {
		s.t = t
		session := s.Session(f.address, "echo $$; exec cat")
		session.Line()
		text := strings.Repeat("x", 1000)
		for i := range changes {
			for n := range 100 {
				session.Send("%d %d %s", i, n, text)
			}
			f.change(i)
			for n := range 100 {
				session.Want(fmt.Sprint(i, " ", n, " ", text))
			}
		}
		session.Close()
		if faults := s.Log(); strings.Contains(faults, "Corrupted") || strings.Contains(faults, "Bad packet") {
			t.Errorf("sshd has met errors:\n%s", faults)
		}
	})
}
