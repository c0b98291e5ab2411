package worker

import (
	"fmt"
	"log"
	"net"
	"net/http"
	"net/http/pprof"
	"os"
	"runtime"
	"time"

	"golang.org/x/sys/unix"

	"reuseportd/internal/wire"
)

// Sampling rates of the profiles other than CPU time: one in so many waits for a lock,
// and one blocking event per so many nanoseconds.
const (
	mutexFraction = 10
	blockRate     = 100 * time.Microsecond
)

// pprofQueue is how many clients may wait to be accepted.
const pprofQueue = 16

// listenPprof makes a listener from the socket that came from the master. If there is none
// (fd is -1) nothing is recorded, since the heap's samples alone would cost a tenth of a
// megabyte.
func listenPprof(fd int) (net.Listener, error) {
	if fd < 0 {
		runtime.MemProfileRate = 0
		return nil, nil
	}
	f := os.NewFile(uintptr(fd), wire.FilePprof)
	defer f.Close()
	if err := unix.Listen(fd, pprofQueue); err != nil {
		return nil, fmt.Errorf("listen for those who want a profile: %w", err)
	}
	l, err := net.FileListener(f)
	if err != nil {
		return nil, fmt.Errorf("listen for those who want a profile: %w", err)
	}
	runtime.SetMutexProfileFraction(mutexFraction)
	runtime.SetBlockProfileRate(int(blockRate))
	return l, nil
}

// servePprof serves profiles, on goroutines of its own. The end of the process doesn't
// wait for them.
func (w *worker) servePprof() {
	mux := http.NewServeMux()
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	s := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second, ErrorLog: log.New(w.log, "", 0)}
	err := s.Serve(w.pprof)
	w.mail.post(func() { w.log.Error().Err(err).Msg("no more profiles are given") })
}
