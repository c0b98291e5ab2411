// Package parent finds out who takes the end of a process for the end of its service.
//
// An upgrade ends the master that was started, and another process goes on. A shell in a terminal
// doesn't mind, but a supervisor starts the service a second time, and a container ends with the
// process that it was made for. This package tells them apart. It owns the rule, reads /proc and
// the environment, and must never change anything.
//
// Only a master that was not started by another one has such a parent. When it has gone, the parent of
// its successors is the process that adopts orphans.
package parent

import (
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"unicode"
)

// InitEnv is the environment variable in which internal/initd passes its PID. It follows whichever
// master runs.
const InitEnv = "REUSEPORTD_INIT"

// Follower is a process that takes the end of this process for that of its service.
type Follower struct {
	PID  int // 0 if it is outside of this PID namespace
	Name string
	// Systemd is set for a unit whose type isn't notify.
	Systemd bool

	direct int // the parent of this process when it was looked for
}

// Find looks for the follower of this process.
func Find() (Follower, bool) { return find(os.Getpid(), look, os.Getenv) }

// Follows reports whether it still does: when the parent has gone nobody waits for this process.
func (f Follower) Follows() bool { return os.Getppid() == f.direct }

// supervisors start a service again when its process ends, or end with it.
var supervisors = []string{
	"supervisord", "runsv", "s6-supervise", "supervise", "perpd", "dinit", "circusd", "monit", "nomad", "pm2", "god",
	"tini", "tini-static", "docker-init", "podman-init", "catatonit", "dumb-init", "containerd-shim", "conmon",
	"foreman", "honcho", "goreman", "overmind", "hivemind", "process-compose",
}

// between are programs that end when the program that they started ends: what counts is who follows
// them.
var between = []string{
	"sh", "bash", "dash", "ash", "busybox", "zsh", "ksh", "mksh", "yash", "fish",
	"sudo", "su", "doas", "runuser", "timeout", "flock", "strace",
}

// machineInits look after the daemons of a whole machine, most of which they did not start. They
// are PID 1 of a machine, and may be that of a container.
var machineInits = []string{"systemd", "init", "openrc-init", "runit"}

// maxSteps bounds the number of ancestors that are looked at.
const maxSteps = 32

// find goes up the ancestors of a process, past those that only wait for their child. If it can't
// see an ancestor it finds no follower: an upgrade isn't refused without a reason.
func find(pid int, look func(pid int) (process, bool), env func(string) string) (Follower, bool) {
	child, ok := look(pid)
	if !ok || env(InitEnv) == strconv.Itoa(child.ppid) {
		return Follower{}, false
	}
	direct := child.ppid
	for range maxSteps {
		if child.ppid == 0 { // a container's runtime, or somebody's terminal in a container (docker exec -it)
			return Follower{Name: "a process outside of this PID namespace", direct: direct}, child.tty == 0
		}
		p, ok := look(child.ppid)
		if !ok {
			return Follower{}, false
		}
		found := Follower{PID: p.pid, Name: printable(p.names[0]), direct: direct}
		switch {
		case p.is(supervisors):
			return found, true
		case p.names[0] == "systemd": // the machine's or a user's
			found.Systemd = true
			return found, env("NOTIFY_SOCKET") == "" && env("SYSTEMD_EXEC_PID") == strconv.Itoa(child.pid)
		case p.is(between) && p.controlsJobs(child):
			return Follower{}, false // a person's shell, which only reports that a job has ended
		case p.pid == 1:
			return found, !p.is(machineInits) && !p.adopted(child)
		case !p.is(between):
			return Follower{}, false
		}
		child = p
	}
	return Follower{}, false
}

// process is what matters about a process.
type process struct {
	pid, ppid, group, session, tty int
	names                          []string // at least one
}

// printable returns a process's name in a form that is safe for a terminal, since a
// process may choose its name.
func printable(name string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return unicode.ReplacementChar
	}, name)
}

func (p process) is(names []string) bool {
	return slices.ContainsFunc(p.names, func(n string) bool { return slices.Contains(names, n) })
}

// controlsJobs reports whether p is an interactive shell that has started child: each of its jobs is a
// process group on its terminal. A script's commands are in the group of the script.
func (p process) controlsJobs(child process) bool {
	return child.tty != 0 && child.tty == p.tty && child.group != p.group
}

// adopted reports whether p did not start child, but became its parent when the previous one
// ended. Usually child is then in a session that another process had made.
func (p process) adopted(child process) bool {
	return child.session != child.pid && child.session != p.session
}

// look reads proc_pid_stat(5) and the command line.
func look(pid int) (process, bool) {
	dir := "/proc/" + strconv.Itoa(pid)
	stat, err := os.ReadFile(dir + "/stat")
	if err != nil {
		return process{}, false
	}
	p, ok := parseStat(string(stat))
	if cmdline, err := os.ReadFile(dir + "/cmdline"); err == nil {
		p.names = append(p.names, commands(strings.Split(string(cmdline), "\x00"))...)
	}
	return p, ok
}

func parseStat(text string) (process, bool) {
	begin, end := strings.IndexByte(text, '('), strings.LastIndexByte(text, ')')
	if begin < 0 || end < begin {
		return process{}, false
	}
	pid, err := strconv.Atoi(strings.TrimSpace(text[:begin]))
	f := strings.Fields(text[end+1:])
	if err != nil || len(f) < 5 {
		return process{}, false
	}
	p := process{pid: pid, names: []string{text[begin+1 : end]}}
	for i, to := range []*int{&p.ppid, &p.group, &p.session, &p.tty} {
		if *to, err = strconv.Atoi(f[1+i]); err != nil {
			return process{}, false
		}
	}
	return p, true
}

// commands returns the names in a command line: of the program, and of what an interpreter runs.
func commands(args []string) []string {
	if args[0] == "" {
		return nil
	}
	program := strings.TrimPrefix(path.Base(args[0]), "-") // a login shell
	names := []string{program}
	if !strings.HasPrefix(program, "python") && program != "node" && program != "ruby" {
		return names
	}
	for i, arg := range args[1:] {
		if arg == "-m" && i+2 < len(args) { // python3 -m supervisor.supervisord
			module := args[i+2]
			return append(names, module[strings.LastIndexByte(module, '.')+1:])
		}
		if !strings.HasPrefix(arg, "-") {
			return append(names, path.Base(arg))
		}
	}
	return names
}
