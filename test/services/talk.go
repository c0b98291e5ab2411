package services

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"testing"
	"time"

	"reuseportd/test/harness"
)

// Talk is a client program with which the test communicates line by line.
type Talk struct {
	t      testing.TB
	name   string
	in     io.WriteCloser
	lines  chan string // closed at the end of its output
	stderr bytes.Buffer
	ended  chan error
	over   bool
}

// StartTalk starts a client.
func StartTalk(t testing.TB, name string, args ...string) *Talk {
	t.Helper()
	cmd := exec.Command(name, args...)
	k := &Talk{t: t, name: name, lines: make(chan string, 4096), ended: make(chan error, 1)}
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	k.in, cmd.Stderr = in, &k.stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		for s := bufio.NewScanner(out); s.Scan(); {
			k.lines <- s.Text()
		}
		close(k.lines)
		k.ended <- cmd.Wait()
	}()
	t.Cleanup(func() {
		if !k.over {
			_ = cmd.Process.Kill() // the test has failed, and said why
			for range k.lines {
			}
			<-k.ended
		}
	})
	return k
}

// Send writes a line.
func (k *Talk) Send(format string, args ...any) {
	k.t.Helper()
	if _, err := fmt.Fprintf(k.in, format+"\n", args...); err != nil {
		k.t.Fatalf("%s: %v", k.name, err)
	}
}

// Want fails the test unless the next lines are these.
func (k *Talk) Want(lines ...string) {
	k.t.Helper()
	for _, want := range lines {
		if got := k.Line(); got != want {
			k.t.Fatalf("%s says %q, want %q", k.name, got, want)
		}
	}
}

// Line waits for the next line.
func (k *Talk) Line() string {
	k.t.Helper()
	select {
	case line, ok := <-k.lines:
		if !ok {
			k.t.Fatalf("%s has ended: %s", k.name, k.end())
		}
		return line
	case <-time.After(harness.Within):
		k.t.Fatalf("%s says nothing", k.name)
	}
	return ""
}

// Close closes the client's input, and fails the test unless the client exits with status
// 0 and no more output.
func (k *Talk) Close() {
	k.t.Helper()
	_ = k.in.Close() // it may have ended
	for line := range k.lines {
		k.t.Errorf("%s has more to say: %q", k.name, line)
	}
	if why := k.end(); why != "" {
		k.t.Errorf("%s: %s", k.name, why)
	}
}

// end waits for the client's end, and returns what was wrong, "" if nothing.
func (k *Talk) end() string {
	k.over = true
	err := <-k.ended
	var exit *exec.ExitError
	if err == nil && k.stderr.Len() == 0 {
		return ""
	}
	if err != nil && !errors.As(err, &exit) {
		return err.Error()
	}
	return strings.TrimSpace(fmt.Sprintf("%v %s", err, k.stderr.String()))
}

// Job is a client program that runs beside the test.
type Job struct {
	t    testing.TB
	cmd  *exec.Cmd
	out  bytes.Buffer
	done chan struct{}
	err  error
}

// StartJob starts a client, whose standard input is in.
func StartJob(t testing.TB, in io.Reader, name string, args ...string) *Job {
	t.Helper()
	return startJob(t, in, nil, name, args...)
}

// startJob is StartJob with the output, but errors, going elsewhere unless out is nil.
func startJob(t testing.TB, in io.Reader, out io.Writer, name string, args ...string) *Job {
	t.Helper()
	j := &Job{t: t, cmd: exec.Command(name, args...), done: make(chan struct{})}
	j.cmd.Stdin, j.cmd.Stdout, j.cmd.Stderr = in, out, &j.out
	if out == nil {
		j.cmd.Stdout = &j.out
	}
	if err := j.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		j.err = j.cmd.Wait()
		close(j.done)
	}()
	t.Cleanup(func() {
		_ = j.cmd.Process.Kill() // it has ended, or the test has failed
		<-j.done
	})
	return j
}

// WantRunning fails the test if the job has ended.
func (j *Job) WantRunning() {
	j.t.Helper()
	select {
	case <-j.done:
		j.t.Fatalf("%s has ended: %v\n%s", j.cmd.Args[0], j.err, j.out.String())
	default:
	}
}

// Wait waits for the job's end, fails the test unless its status is 0, and returns its
// output.
func (j *Job) Wait() string {
	j.t.Helper()
	select {
	case <-j.done:
	case <-time.After(3 * harness.Within):
		j.t.Fatalf("%s doesn't end", j.cmd.Args[0])
	}
	if j.err != nil {
		j.t.Fatalf("%s: %v\n%s", j.cmd.Args[0], j.err, j.out.String())
	}
	return j.out.String()
}
