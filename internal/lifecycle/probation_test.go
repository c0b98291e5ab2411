package lifecycle

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"reuseportd/internal/config"
	"reuseportd/internal/control"
)

// onTrial is configure with a probation. Its SHA256 is name.
func onTrial(name string, workers int, ports ...int) *config.Config {
	c := configure(workers, 1, ports...)
	c.Probation, c.MaxDraining, c.SHA256 = 10*time.Second, 8, name
	return c
}

// crash has a worker of the serving generation die that has a process.
func (w *world) crash() {
	w.t.Helper()
	for _, wk := range w.core.serving().workers {
		if p := w.running[wk.id()]; p != nil {
			p.dies("killed")
			return
		}
	}
	w.t.Fatal("no worker is left to die")
}

// crashes has so many die, each once the one before is replaced.
func (w *world) crashes(n int) {
	w.t.Helper()
	for range n {
		w.crash()
		w.settle()
	}
}

// outlive lets time go by until the probation is over.
func (w *world) outlive() {
	w.t.Helper()
	for i := 0; i == 0 || w.core.trial != nil; i++ {
		if i == 10 {
			w.t.Fatal("the probation does not end")
		}
		w.settle()
	}
}

// serves wants a configuration to serve.
func (w *world) serves(name string) {
	w.t.Helper()
	if conf := w.core.Conf(); conf == nil || conf.SHA256 != name {
		w.t.Fatalf("configuration %v serves, want %s", conf, name)
	}
}

// actionsTaken lists the receipts, with a ! behind those of failed changes and a ~
// behind undone ones.
func (w *world) actionsTaken() string {
	var all []string
	for _, r := range w.core.receipts {
		text := r.Action
		if !r.OK {
			text += "!"
		}
		if r.Undone != "" {
			text += "~"
		}
		all = append(all, text)
	}
	return strings.Join(all, " ")
}

func (w *world) took(want string) {
	w.t.Helper()
	if got := w.actionsTaken(); got != want {
		w.t.Errorf("changes: %s, want %s", got, want)
	}
}

// trialWorld has configuration a, then b on probation.
func trialWorld(t *testing.T) (w *world, a, b *config.Config) {
	t.Helper()
	w = newWorld(t)
	p := ports(t, 1)
	a, b = onTrial("a", 2, p[0]), onTrial("b", 3, p[0])
	w.start(a)
	w.settle()
	w.reload(b)
	w.core.now = w.core.now.Add(time.Millisecond)
	for w.core.change != nil {
		fs := w.actions()
		fs[w.random.IntN(len(fs))]()
	}
	w.serves("b")
	return w, a, b
}

func TestThirdDeathRollsBack(t *testing.T) {
	w, _, _ := trialWorld(t)
	w.crash()
	w.crash()
	w.serves("b")
	w.took("start reload")
	w.crash()
	if w.core.change == nil || w.core.change.action != "rollback" {
		t.Fatalf("change %+v, want a rollback at once", w.core.change)
	}
	w.settle()
	w.serves("a")
	w.took("start reload~ rollback")
	last := w.core.receipts[2]
	if last.Generation != 3 || last.Previous != 2 || last.ConfigSHA256 != "a" {
		t.Errorf("receipt %+v", last)
	}
	if text := w.core.Status().Config.Error; !strings.Contains(text, "generation 2") || !strings.Contains(text, "was brought back") {
		t.Errorf("the file's error is %q", text)
	}
	// There is nothing that it could be rolled back to: it goes on as ever.
	w.crashes(4)
	w.took("start reload~ rollback")
}

func TestDeathsThatDoNotCount(t *testing.T) {
	for _, tt := range []struct {
		name string
		do   func(w *world)
	}{
		{"after probation", func(w *world) {
			w.crash()
			w.crash()
			w.outlive()
			w.crashes(3)
		}},
		{"of the old generation", func(w *world) {
			w.crash()
			w.crash()
			for _, p := range w.procs {
				if p.w.gen.state == draining {
					p.dead = true
				}
			}
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w, _, _ := trialWorld(t)
			tt.do(w)
			w.settle()
			w.serves("b")
			if strings.Contains(w.actionsTaken(), "rollback") {
				t.Errorf("changes: %s", w.actionsTaken())
			}
		})
	}
}

// A hang that begins on probation counts, though it is found out later.
func TestHangFoundOutLate(t *testing.T) {
	w, _, _ := trialWorld(t)
	w.crashes(2)
	var hung *fakeProc
	until := w.core.trial.until
	for w.core.change == nil {
		if hung == nil && w.core.now.After(until.Add(-3*time.Second)) {
			hung = w.running[w.core.serving().workers[0].id()]
		}
		for _, p := range w.procs {
			for p != hung && p.current() && len(p.inbox) > 0 {
				p.step()
			}
		}
		if hung != nil && hung.dead {
			w.handle(WorkerExited{hung.w.id(), "killed"})
			break
		}
		w.pass(20 * time.Millisecond)
	}
	if late := w.core.now.Sub(until); late <= 0 {
		t.Fatalf("the hang was found out %v before the end of the probation", -late)
	}
	w.settle()
	w.serves("a")
	w.took("start reload~ rollback")
}

func TestNoProbation(t *testing.T) {
	w := newWorld(t)
	p := ports(t, 1)
	w.start(onTrial("a", 2, p[0]))
	w.settle()
	w.crashes(3) // a first generation has nothing before it
	w.took("start")
	off := onTrial("off", 2, p[0])
	off.Probation = 0
	w.reload(off)
	w.settle()
	w.crashes(3)
	w.serves("off")
	w.took("start reload")
}

// A death that ends the trial while the change itself isn't finished, because an old
// worker has not let go: the receipt that is to come is marked all the same.
func TestRollbackBeforeTheReceipt(t *testing.T) {
	w := newWorld(t)
	p := ports(t, 1)
	w.start(onTrial("a", 2, p[0]))
	w.settle()
	old := append([]*fakeProc(nil), w.procs...)
	w.reload(onTrial("b", 2, p[0]))
	for w.core.change.receipt == nil {
		for _, p := range w.procs[len(old):] {
			if p.w.state == starting {
				p.isReady()
			} else if len(p.inbox) > 0 {
				p.step()
			}
		}
	}
	for range 3 {
		w.crash()
	}
	if w.core.change == nil || w.core.change.action != "reload" {
		t.Fatalf("change %+v, want the reload to wait for the old workers", w.core.change)
	}
	w.settle()
	w.serves("a")
	w.took("start reload~ rollback")
}

// What was asked for while a rollback was due decides: the third death was that of
// a generation that isn't there any more.
func TestRollbackOvertaken(t *testing.T) {
	w, _, _ := trialWorld(t)
	w.crash()
	w.crash()
	p := ports(t, 1)
	w.reload(onTrial("fixed", 2, p[0]))
	w.crash()
	if w.core.change.action != "reload" {
		t.Fatalf("change %+v", w.core.change)
	}
	w.settle()
	w.serves("fixed")
	w.took("start reload reload")
	if text := w.core.Status().Config.Error; text != "" {
		t.Errorf("the file's error is %q", text)
	}
}

// A change that fails doesn't keep the rollback from coming.
func TestRollbackAfterFailedChange(t *testing.T) {
	w, _, _ := trialWorld(t)
	w.crash()
	w.crash()
	w.ready = false
	w.reload(onTrial("c", 2, ports(t, 1)[0]))
	w.crash()
	w.handle(failChange{errors.New("no")})
	w.ready = true
	w.settle()
	w.serves("a")
	w.took("start reload~ reload! rollback")
}

// A reload that waits behind the rollback loads what the file has then.
func TestReloadBehindRollback(t *testing.T) {
	w, _, b := trialWorld(t)
	for range 3 {
		w.crash()
	}
	w.reload(b)
	w.settle()
	w.serves("b")
	w.took("start reload~ rollback reload")
}

func TestStopDuringRollback(t *testing.T) {
	w, _, _ := trialWorld(t)
	for range 3 {
		w.crash()
	}
	w.handle(Request{Action: "stop", Cause: CauseSignal})
	for i := 0; !w.exited && i < 10_000; i++ {
		if fs := w.actions(); len(fs) > 0 {
			fs[0]()
		} else {
			w.pass(20 * time.Millisecond)
		}
	}
	if !w.exited || w.status != 0 {
		t.Errorf("exited %v with %d", w.exited, w.status)
	}
	w.took("start reload rollback! stop")
}

// When what was can't be had any more, what is serves on, nothing is said to be
// undone, and no death starts it again.
func TestRollbackThatFails(t *testing.T) {
	w, _, _ := trialWorld(t)
	w.settle()
	taken, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	w.core.trial.prior.Conf = onTrial("a", 2, taken.Addr().(*net.TCPAddr).Port)
	w.crashes(6)
	w.serves("b")
	w.took("start reload rollback!")
	if text := w.core.Status().Config.Error; !strings.Contains(text, "could not be brought back") {
		t.Errorf("the file's error is %q", text)
	}
	w.reload(onTrial("a", 2, ports(t, 1)[0]))
	w.settle()
	w.serves("a")
	if text := w.core.Status().Config.Error; text != "" {
		t.Errorf("the file's error after a good change is %q", text)
	}
}

// What comes back may never have passed its own probation: it gets another one, and
// behind it is what had.
func TestTwoBadChanges(t *testing.T) {
	w, _, _ := trialWorld(t)
	p := ports(t, 2)
	w.reload(onTrial("c", 2, p[0]))
	w.settle()
	w.reload(onTrial("d", 2, p[1]))
	w.settle()
	w.crashes(3)
	w.serves("c")
	w.crashes(3)
	w.serves("a")
	w.crashes(3)
	w.serves("a")
	w.took("start reload reload reload~ rollback~ rollback")
}

// failChange has the change in progress fail.
type failChange struct{ err error }

func (f failChange) handle(c *Core) { c.fail(f.err) }

// upgradingWorld is one whose master has come after another, whose binary is image.
type upgradingWorld struct {
	*world
	image *os.File
}

// upgradedWorld is a world in which an upgrade has just cut over.
func upgradedWorld(t *testing.T) *upgradingWorld {
	t.Helper()
	image, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { image.Close() })
	h := &upgradingWorld{newWorld(t), image}
	p := ports(t, 1)
	h.start(onTrial("a", 2, p[0]))
	h.settle()
	h.handle(Predecessor{image})
	h.upgradeTo(onTrial("b", 2, p[0]))
	h.settle()
	return h
}

// upgradeTo begins the change of a master that takes over from another.
func (h *upgradingWorld) upgradeTo(conf *config.Config) {
	h.handle(Begin{Action: "upgrade", Masters: true, Started: h.core.now, Conf: conf})
}

func TestUpgradeRollsBack(t *testing.T) {
	h := upgradedWorld(t)
	h.crash()
	h.crash()
	h.crash()
	if h.rolled == nil || h.rolled.Image != h.image || h.rolled.Conf.SHA256 != "a" {
		t.Fatalf("rolled back to %+v", h.rolled)
	}
	h.handle(NotUpgraded{Err: errors.New("it does not start")})
	h.settle()
	h.took("start upgrade rollback!")
	if text := h.core.Status().Config.Error; !strings.Contains(text, "previous binary and configuration could not be brought back") {
		t.Errorf("the file's error is %q", text)
	}
	if err := h.image.Close(); err == nil {
		t.Error("the image is open yet")
	}
	h.crashes(3)
	h.took("start upgrade rollback!")
}

// A reload on the probation of an upgrade: first the configuration goes back, and if
// that was not it, the binary.
func TestReloadOnProbationOfUpgrade(t *testing.T) {
	h := upgradedWorld(t)
	h.reload(onTrial("c", 2, ports(t, 1)[0]))
	h.settle()
	h.crashes(3)
	h.serves("b")
	if h.rolled != nil {
		t.Fatal("the binary goes back first")
	}
	h.crash()
	h.crash()
	h.crash()
	if h.rolled == nil || h.rolled.Image != h.image || h.rolled.Conf.SHA256 != "a" {
		t.Fatalf("rolled back to %+v", h.rolled)
	}
	h.handle(NotUpgraded{Err: errors.New("enough")})
	h.settle()
}

// The image that is kept for a trial is let go of when the trial is over, however
// it ends.
func TestImageIsLetGo(t *testing.T) {
	for _, tt := range []struct {
		name string
		end  func(h *upgradingWorld)
	}{
		{"passed", func(h *upgradingWorld) { h.outlive() }},
		{"reloads", func(h *upgradingWorld) {
			for i := range 3 {
				h.reload(onTrial(fmt.Sprint(i), 2, ports(h.t, 1)[0]))
				h.settle()
			}
			h.outlive()
		}},
		{"reload without probation", func(h *upgradingWorld) {
			off := onTrial("off", 2, ports(h.t, 1)[0])
			off.Probation = 0
			h.reload(off)
			h.settle()
		}},
		{"overtaken", func(h *upgradingWorld) {
			h.crash()
			h.crash()
			h.reload(onTrial("c", 2, ports(h.t, 1)[0]))
			h.crash()
			h.settle()
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := upgradedWorld(t)
			tt.end(h)
			if err := h.image.Close(); err == nil {
				t.Error("the image is open yet")
			}
		})
	}
}

// After a rollback the watcher is told of the content that was bad, not of what the
// file has by then: that may be the remedy.
func TestWhatTheWatcherKnows(t *testing.T) {
	w, a, b := trialWorld(t)
	if got := w.core.Seen(b, w.core.receipts[1]); got != "b" {
		t.Errorf("after a reload it knows %q", got)
	}
	w.crashes(3)
	if got := w.core.Seen(a, w.core.receipts[2]); got != "b" {
		t.Errorf("after a rollback it knows %q", got)
	}
}

// The error of a file that was refused doesn't outlive the file: an upgrade loads
// what stands there as a reload does.
func TestUpgradeClearsTheFilesError(t *testing.T) {
	h := upgradedWorld(t)
	h.reload(nil)
	h.settle()
	if h.core.Status().Config.Error == "" {
		t.Fatal("no error")
	}
	h.upgradeTo(onTrial("c", 2, ports(t, 1)[0]))
	h.settle()
	if text := h.core.Status().Config.Error; text != "" {
		t.Errorf("the file's error after an upgrade that loaded it is %q", text)
	}
}

// TestRandomTrials lets reloads, deaths, hangs and time come in any order.
func TestRandomTrials(t *testing.T) {
	p := ports(t, 3)
	trials := uint64(25)
	if testing.Short() {
		trials = 3
	}
	for seed := range trials {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			w := newWorld(t)
			w.random = rand.New(rand.NewPCG(seed, 11))
			w.start(onTrial("first", 2, p[0]))
			w.settle()
			for i := range 400 {
				switch n := w.random.IntN(100); {
				case n < 3:
					some := p[:1+w.random.IntN(3)]
					w.reload(onTrial(fmt.Sprint(i), 1+w.random.IntN(3), some...))
				case n < 10:
					if p := w.procs[w.random.IntN(len(w.procs))]; p.current() {
						p.dead = true
					}
				case n < 25:
					w.pass(time.Duration(w.random.IntN(400)) * time.Millisecond)
				default:
					if fs := w.actions(); len(fs) > 0 {
						fs[w.random.IntN(len(fs))]()
					}
				}
			}
			w.settle()
			w.checkReceipts()
		})
	}
}

// checkReceipts holds that each undone change is followed by the rollback that has
// undone it, and that each rollback that was done has undone what was before it.
func (w *world) checkReceipts() {
	w.t.Helper()
	by := make(map[uint64]*control.Receipt)
	for _, r := range w.core.receipts {
		if r.OK && r.Action == "rollback" {
			by[r.Previous] = r
		}
	}
	for _, r := range w.core.receipts {
		if undone := r.OK && by[r.Generation] != nil; undone != (r.Undone != "") {
			w.t.Errorf("receipt %+v, rolled back %v", r, undone)
		}
	}
	if len(w.core.receipts) > maxReceipts {
		w.t.Errorf("%d receipts are kept", len(w.core.receipts))
	}
}
