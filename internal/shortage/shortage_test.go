package shortage

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestExplain(t *testing.T) {
	for _, c := range []struct {
		err  error
		says string
	}{
		{fmt.Errorf("socket: %w", unix.EMFILE), "LimitNOFILE="},
		{fmt.Errorf("socket: %w", unix.ENFILE), "fs.file-max"},
		{fmt.Errorf("fork: %w", unix.ENOMEM), "MemoryMax="},
		{fmt.Errorf("fork: %w", unix.EAGAIN), "TasksMax="},
		{errors.New("can't start process: fork/exec: resource temporarily unavailable"), "TasksMax="},
		{errors.New("worker 1: runtime: failed to create new OS thread (have 5 already; errno=11)"), "TasksMax="},
		{fmt.Errorf("keep: %w", &os.PathError{Op: "write", Path: "/run/x", Err: unix.ENOSPC}), "the file system of /run/x is full"},
		{errors.New("write: no space left on device"), "the file system is full"},
		{fmt.Errorf("read: %w", unix.EAGAIN), ""},
		{errors.New("bind: address already in use"), ""},
	} {
		got := Explain(c.err)
		if c.says == "" && got.Error() != c.err.Error() || !strings.Contains(got.Error(), c.says) || !errors.Is(got, c.err) {
			t.Errorf("%v: %v", c.err, got)
		}
		if again := Explain(fmt.Errorf("reload: %w", got)); strings.Count(again.Error(), ": raise") > 1 {
			t.Errorf("explained twice: %v", again)
		}
	}
	if Explain(nil) != nil {
		t.Error("nil is explained")
	}
}
