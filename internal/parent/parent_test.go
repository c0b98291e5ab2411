package parent

import (
	"os"
	"slices"
	"strconv"
	"testing"
)

// One table of parents: who follows, and who doesn't. Each line is a process and those above it.
func TestFind(t *testing.T) {
	const tty = 0x8801
	// proc is one that has a process group and a session of its own, and no terminal.
	proc := func(pid, ppid int, names ...string) process {
		return process{pid: pid, ppid: ppid, group: pid, session: pid, names: names}
	}
	in := func(p process, group, session, tty int) process {
		p.group, p.session, p.tty = group, session, tty
		return p
	}
	for _, tt := range []struct {
		name  string
		chain []process // the first is asked for
		env   map[string]string
		want  string // the follower, "" is none
	}{
		{"tini is PID 1", []process{in(proc(7, 1, "reuseportd"), 7, 1, 0), proc(1, 0, "tini")}, nil, "tini"},
		{"docker run -it --init", []process{in(proc(7, 1, "reuseportd"), 7, 1, tty), in(proc(1, 0, "docker-init"), 1, 1, tty)}, nil, "docker-init"},
		{"dumb-init makes a session", []process{proc(7, 1, "reuseportd"), proc(1, 0, "dumb-init")}, nil, "dumb-init"},
		{"runit", []process{proc(70, 60, "reuseportd"), proc(60, 1, "runsv"), proc(1, 0, "runit")}, nil, "runsv"},
		{"runit, a run script without exec", []process{in(proc(70, 65, "reuseportd"), 65, 65, 0), proc(65, 60, "run", "sh"), proc(60, 1, "runsv")}, nil, "runsv"},
		{"s6", []process{proc(70, 60, "reuseportd"), proc(60, 1, "s6-supervise"), proc(1, 0, "s6-svscan")}, nil, "s6-supervise"},
		{"supervisord", []process{proc(70, 60, "reuseportd"), proc(60, 1, "supervisord", "python3")}, nil, "supervisord"},
		{"supervisord as a module", []process{proc(70, 60, "reuseportd"), proc(60, 1, "python3", "python3", "supervisord")}, nil, "python3"},
		{"an entrypoint that is a script", []process{in(proc(7, 1, "reuseportd"), 1, 1, 0), proc(1, 0, "entrypoint.sh", "sh")}, nil, "entrypoint.sh"},
		{"an entrypoint in Python", []process{in(proc(7, 1, "reuseportd"), 1, 1, 0), proc(1, 0, "start.py", "python3")}, nil, "start.py"},
		{"docker run -it image sh -c", []process{in(proc(7, 1, "reuseportd"), 1, 1, tty), in(proc(1, 0, "sh"), 1, 1, tty)}, nil, "sh"},
		{"a script in a script", []process{in(proc(9, 7, "reuseportd"), 1, 1, 0), in(proc(7, 1, "sh"), 1, 1, 0), proc(1, 0, "bash")}, nil, "bash"},
		{"below sudo", []process{in(proc(9, 7, "reuseportd"), 1, 1, 0), in(proc(7, 1, "sudo"), 1, 1, 0), proc(1, 0, "bash")}, nil, "bash"},
		{"a container in another's PID namespace", []process{proc(30, 0, "reuseportd")}, nil, "a process outside of this PID namespace"},
		{"a container in the host's", []process{proc(3000, 2000, "reuseportd"), proc(2000, 1, "containerd-shim")}, nil, "containerd-shim"},
		{"systemd, Type=simple", []process{proc(70, 1, "reuseportd"), proc(1, 0, "systemd", "init")}, map[string]string{"SYSTEMD_EXEC_PID": "70"}, "systemd"},
		{"a user's systemd", []process{proc(70, 60, "reuseportd"), proc(60, 1, "systemd")}, map[string]string{"SYSTEMD_EXEC_PID": "70"}, "systemd"},
		{"runit below a systemd that is told", []process{proc(70, 60, "reuseportd"), proc(60, 1, "runsv")}, map[string]string{"NOTIFY_SOCKET": "/run/n"}, "runsv"},

		{"systemd, Type=notify", []process{proc(70, 1, "reuseportd"), proc(1, 0, "systemd")}, map[string]string{"SYSTEMD_EXEC_PID": "70", "NOTIFY_SOCKET": "/run/n"}, ""},
		{"an orphan below systemd", []process{in(proc(70, 1, "reuseportd"), 70, 50, 0), proc(1, 0, "systemd")}, map[string]string{"SYSTEMD_EXEC_PID": "50"}, ""},
		{"a daemon below OpenRC", []process{proc(70, 1, "reuseportd"), proc(1, 0, "init")}, nil, ""},
		{"a person's shell", []process{in(proc(70, 60, "reuseportd"), 70, 60, tty), in(proc(60, 50, "bash"), 60, 60, tty), proc(50, 1, "sshd")}, nil, ""},
		{"a person's script", []process{in(proc(70, 65, "reuseportd"), 65, 60, tty), in(proc(65, 60, "try.sh", "sh"), 65, 60, tty), in(proc(60, 50, "bash"), 60, 60, tty)}, nil, ""},
		{"a person's shell is PID 1", []process{in(proc(7, 1, "reuseportd"), 7, 1, tty), in(proc(1, 0, "bash"), 1, 1, tty)}, nil, ""},
		{"docker exec -it", []process{in(proc(70, 0, "reuseportd"), 70, 70, tty)}, nil, ""},
		{"ssh host reuseportd run", []process{proc(70, 60, "reuseportd"), proc(60, 50, "sshd")}, nil, ""},
		{"cron", []process{in(proc(70, 60, "reuseportd"), 60, 60, 0), proc(60, 50, "sh"), proc(50, 1, "cron")}, nil, ""},
		{"a test", []process{proc(70, 60, "reuseportd"), proc(60, 50, "test.test"), proc(50, 1, "go")}, nil, ""},
		{"an orphan in a container", []process{in(proc(70, 1, "reuseportd"), 70, 50, 0), proc(1, 0, "app")}, nil, ""},
		{"initd is PID 1", []process{proc(7, 1, "reuseportd"), proc(1, 0, "reuseportd")}, map[string]string{InitEnv: "1"}, ""},
		{"initd further up", []process{proc(7, 5, "reuseportd"), proc(5, 1, "tini"), proc(1, 0, "init")}, map[string]string{InitEnv: "1"}, "tini"},
		{"a parent that can't be seen", []process{proc(7, 1, "reuseportd")}, nil, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			look := func(pid int) (process, bool) {
				i := slices.IndexFunc(tt.chain, func(p process) bool { return p.pid == pid })
				if i < 0 {
					return process{}, false
				}
				return tt.chain[i], true
			}
			got, follows := find(tt.chain[0].pid, look, func(k string) string { return tt.env[k] })
			if follows != (tt.want != "") || follows && got.Name != tt.want {
				t.Errorf("%+v, %v; want %q", got, follows, tt.want)
			}
		})
	}
}

func TestLook(t *testing.T) {
	p, ok := look(os.Getpid())
	if !ok || p.pid != os.Getpid() || p.ppid != os.Getppid() || len(p.names) < 2 {
		t.Errorf("%+v, %v", p, ok)
	}
	if p, ok := parseStat("12 (a) b) S 3 4 5 6 7"); !ok || p.names[0] != "a) b" || p.ppid != 3 || p.group != 4 || p.session != 5 || p.tty != 6 {
		t.Errorf("%+v, %v", p, ok)
	}
	for _, bad := range []string{"", "12", "12 )(", "x (a) S 1 2 3 4", "12 (a) S 1 2"} {
		if p, ok := parseStat(bad); ok {
			t.Errorf("%q: %+v", bad, p)
		}
	}
}

func TestCommands(t *testing.T) {
	for i, tt := range []struct{ args, want []string }{
		{[]string{"/bin/sh", "/entrypoint.sh"}, []string{"sh"}},
		{[]string{"-bash"}, []string{"bash"}},
		{[]string{"/usr/bin/python3", "-u", "/usr/bin/supervisord", "-n"}, []string{"python3", "supervisord"}},
		{[]string{"python3.11", "-m", "supervisor.supervisord"}, []string{"python3.11", "supervisord"}},
		{[]string{"python3", "-m"}, []string{"python3"}},
		{[]string{""}, nil},
	} {
		if got := commands(tt.args); !slices.Equal(got, tt.want) {
			t.Errorf("%s: %q, want %q", strconv.Itoa(i), got, tt.want)
		}
	}
}
