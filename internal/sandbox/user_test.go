package sandbox

import (
	"os"
	"slices"
	"strings"
	"testing"
)

func TestUserArg(t *testing.T) {
	for _, u := range []User{{UID: 33}, {UID: 65534}, {}} {
		got, err := parseUser(u.Arg())
		if err != nil || got.UID != u.UID {
			t.Errorf("%+v comes back as %+v, %v", u, got, err)
		}
	}
	for _, bad := range []string{"", "33", "user=", "user=1:2", "user=-1", "user=4294967295", "user=4294967296", "user=x"} {
		if u, err := parseUser(bad); err == nil {
			t.Errorf("%q is %+v", bad, u)
		}
	}
}

func TestEnvironment(t *testing.T) {
	got := Environment([]string{"TZ=UTC", "AWS_SECRET=x", "GODEBUG=a=1", "NOTIFY_SOCKET=/x", "TZX=1", "T_DIR=/t"}, "T_")
	if want := []string{"TZ=UTC", "GODEBUG=a=1", "T_DIR=/t"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestParseStatus(t *testing.T) {
	const good = "Name:\tx\nUid:\t33\t33\t33\t33\nGid:\t34\t34\t34\t34\nCapPrm:\t0000000000000006\nCapBnd:\t00000000000000ff\nNoNewPrivs:\t1\nSeccomp:\t2\n"
	want := Report{33, 34, true, true, 0xff, 6}
	if got, err := parseStatus(good); err != nil || got != want {
		t.Errorf("%+v, %v", got, err)
	}
	for _, cut := range [][2]string{{"Uid:\t33\t33", "Uid:\t33\t0"}, {"Gid:", "Xid:"}, {"34\t34\t34\t34", "34"}, {"CapBnd:\t0", "CapBnd:\tz"}} {
		if got, err := parseStatus(strings.Replace(good, cut[0], cut[1], 1)); err == nil {
			t.Errorf("with %q: %+v", cut[1], got)
		}
	}
	if r, err := ReadReport(os.Getpid()); err != nil || int(r.UID) != os.Getuid() {
		t.Errorf("this process: %+v, %v", r, err)
	}
}

// TestAsUserKeepsThreads: whoever looks as somebody else costs the process no thread and leaves none
// changed.
func TestAsUserKeepsThreads(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can be somebody else")
	}
	look := func() {
		who, err := AsUser(&User{UID: 65534, GID: 65534}, func() (string, error) {
			status, err := os.ReadFile("/proc/thread-self/status")
			return string(status), err
		}, nil)
		if err != nil || !strings.Contains(who, "Uid:\t0\t0\t0\t65534\n") || !strings.Contains(who, "Groups:\t \n") {
			t.Fatalf("%v: %s", err, who)
		}
	}
	// As many as there are threads by now, and what the runtime may add.
	threads := make(map[string]bool)
	for range 200 {
		look()
		tasks, err := os.ReadDir("/proc/self/task")
		if err != nil {
			t.Fatal(err)
		}
		for _, task := range tasks {
			threads[task.Name()] = true
			status, err := os.ReadFile("/proc/self/task/" + task.Name() + "/status")
			if err == nil && !strings.Contains(string(status), "Uid:\t0\t0\t0\t0\n") {
				t.Fatalf("thread %s is changed: %s", task.Name(), status)
			}
		}
	}
	if len(threads) > 100 {
		t.Errorf("%d threads came and went in 200 rounds", len(threads))
	}
}
