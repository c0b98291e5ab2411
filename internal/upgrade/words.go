package upgrade

import (
	"bytes"
	"errors"
	"strings"

	"golang.org/x/sys/unix"

	"reuseportd/internal/lifecycle"
	"reuseportd/internal/memfd"
	"reuseportd/internal/shortage"
)

// maxWords bounds what a worker can write to its standard error before it works, in bytes. What it
// begins with says why it ends.
const maxWords = 16 << 10

// makeWords makes what a worker has as its standard error at first.
func makeWords() (int, error) { return memfd.Sized("reuseportd-stderr", maxWords) }

// forgetWords says that the worker writes to the service's standard error by now.
func (p *proc) forgetWords() {
	if p.words >= 0 {
		_ = unix.Close(p.words)
		p.words = -1
	}
}

// goCrash is how a process ends after a panic or a fatal error, as where no thread can be started.
const goCrash = "exit status 2"

// ending adds to how a process has ended what is known of why.
func (p *proc) ending(status string) string {
	text := ""
	if p.words >= 0 {
		raw := make([]byte, maxWords)
		n, _ := unix.Pread(p.words, raw, 0)
		raw, _, _ = bytes.Cut(raw[:max(n, 0)], []byte{0})
		text = string(raw)
	}
	switch {
	case text != "":
		p.co.log.Error().Int("worker_pid", p.pid).Str("stderr", printable(text)).Msg("a worker ended where it begins, with these words")
		status = shortage.Explain(errors.New(status + ": " + firstWords(text))).Error()
	case status == goCrash:
		status += ": Go's runtime has ended it, and has said why on standard error"
	case !p.co.core.Doomed(p.id) && status == "killed by SIGKILL":
		status += ", and not by the master: by the kernel for want of memory, or by somebody else"
	}
	return status
}

// firstWords are the lines up to the first stack, as one.
func firstWords(text string) string {
	var lines []string
	for line := range strings.Lines(text) {
		line = strings.TrimPrefix(strings.TrimSpace(line), "runtime: ")
		if line == "" || strings.HasPrefix(line, "goroutine ") || strings.HasPrefix(line, "PC=") {
			break
		}
		lines = append(lines, line)
	}
	return lifecycle.Brief(printable(strings.Join(lines, "; ")))
}
