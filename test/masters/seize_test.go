package masters

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"reuseportd/test/harness"
	"reuseportd/test/kit"
)

// The shards of a worker that hangs when its master is killed don't end with it: whoever waits in
// their queues is served by the next master's workers, and a duplicate that another process keeps
// takes no connections away.
func TestShardsOfAStoppedOrphan(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: a worker's descriptors are taken, by the test and by the master")
	}
	c := harness.Default(t)
	s := harness.Start(t, c)
	g := harness.Serving(s.Status())
	victim := g.Workers[0]
	l := rob(t, s, g.ID, victim)
	s.Kill9Master()
	harness.StopProcess(t, victim.PID)

	// So many that not all are the other worker's, whoever gets them: the chance is 2^-64.
	var waiting []*kit.Client
	for range 64 {
		waiting = append(waiting, kit.Dial(t, c.Address("web")))
	}
	for _, w := range waiting {
		w.Send(kit.Get)
	}
	kit.Adopts(t, s)
	for _, w := range waiting {
		if _, got := w.Answer(); got != "hello\n" {
			t.Fatalf("answer %q to a connection that waited to be accepted", got)
		}
		w.Close()
	}
	for range 64 {
		if got := kit.Body(c.Address("web")); got != "hello\n" {
			t.Fatalf("answer %q while somebody has a duplicate of a shard", got)
		}
	}
	l.Close()
	s.Stop()
}

// A worker whose rescue others call without pause is no worker that hangs: the next master waits for a
// place in its queue, and nobody loses a connection.
func TestOrphanWithAFullQueueIsAdopted(t *testing.T) {
	c := harness.Default(t).WithWorkers(1)
	s := harness.Start(t, c)
	kept := kit.Dial(t, c.Address("echo"))
	kept.Echo("before")
	worker := s.Workers()[0]
	s.Kill9Master()
	harness.StopProcess(t, worker)
	callers := fillQueue(t, filepath.Join(s.RuntimeDir, "worker-1-0.sock"))
	s.Arm("adopt-queue-full", harness.Pause)
	m := s.RunMaster()
	s.WaitHit("adopt-queue-full")
	for _, fd := range callers {
		_ = unix.Close(fd)
	}
	kit.Must(t, unix.Kill(worker, unix.SIGCONT))
	s.Wait("the worker to find that its callers have gone", func() bool {
		fd, err := call(filepath.Join(s.RuntimeDir, "worker-1-0.sock"))
		if err == nil {
			_ = unix.Close(fd)
		}
		return err == nil
	})
	s.Disarm("adopt-queue-full")
	s.WaitAlone(m.PID())
	kept.Echo("after")
	kept.Close()
	s.Stop()
}

// TestUnrecordedWithAFullQueueIsWaitedFor: a worker that is in no record, for its master was killed when it had just
// been started, ends by itself. That it can't be called meanwhile is no reason to refuse the start.
func TestUnrecordedWithAFullQueueIsWaitedFor(t *testing.T) {
	c := harness.Default(t).WithWorkers(1)
	s := harness.Start(t, c)
	kept := kit.Dial(t, c.Address("echo"))
	kept.Echo("before")
	s.Kill9Master()
	path := filepath.Join(s.RuntimeDir, "worker-7-0.sock")
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	kit.Must(t, err)
	kit.Must(t, errors.Join(unix.Bind(fd, &unix.SockaddrUnix{Name: path}), unix.Listen(fd, 1)))
	callers := fillQueue(t, path)
	s.Arm("adopt-queue-full", harness.Pause)
	m := s.RunMaster()
	s.WaitHit("adopt-queue-full")
	for _, fd := range append(callers, fd) {
		_ = unix.Close(fd)
	}
	s.Disarm("adopt-queue-full")
	s.WaitAlone(m.PID())
	kept.Echo("after")
	kept.Close()
	s.Stop()
}

// fillQueue connects to a Unix socket until its queue is full.
func fillQueue(t *testing.T, path string) (fds []int) {
	t.Helper()
	for range 10_000 {
		fd, err := call(path)
		if errors.Is(err, unix.EAGAIN) {
			return fds
		}
		kit.Must(t, err)
		fds = append(fds, fd)
	}
	t.Fatal("the queue has no end")
	return nil
}

// call connects to a Unix socket if there is room in its queue; EAGAIN if not.
func call(path string) (int, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	if err := unix.Connect(fd, &unix.SockaddrUnix{Name: path}); err != nil {
		_ = unix.Close(fd)
		return -1, err
	}
	return fd, nil
}
