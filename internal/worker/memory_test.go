package worker

import "testing"

const mib = 1 << 20

func TestKeeper(t *testing.T) {
	var k keeper
	look := func(resident, held, bound int64) decision { return k.look(resident*mib, held*mib, bound*mib) }
	if d := look(20, 0, 0); d != (decision{}) {
		t.Errorf("without a bound, at rest: %+v", d)
	}
	if d := look(60, 30, 64); d.bound != 42*mib || d.free {
		t.Errorf("within the bound: %+v", d)
	}
	// What isn't counted presses on what is, as long as it is there.
	if d := look(74, 30, 64); d.bound != 32*mib {
		t.Errorf("10 MiB too much: connections may hold %d bytes", d.bound)
	}
	if d := look(69, 30, 64); d.bound != 27*mib {
		t.Errorf("5 MiB too much still: %d bytes", d.bound)
	}
	for range 200 {
		look(40, 20, 64)
	}
	if d := look(40, 20, 64); d.bound != 42*mib {
		t.Errorf("in the end: %d bytes", d.bound)
	}
	if d := look(1000, 20, 64); d.bound != leastHeld {
		t.Errorf("far too much: %d bytes", d.bound)
	}
}

// TestKeeperGivesBack: what a burst leaves goes back at the second look, and then not at each.
func TestKeeperGivesBack(t *testing.T) {
	var k keeper
	freed := 0
	for i := range 12 {
		if k.look(500*mib, 0, 0).free {
			if freed++; i == 0 {
				t.Error("a first look is no pattern")
			}
		}
	}
	if freed < 2 || freed > 3 {
		t.Errorf("given back %d times of 12", freed)
	}
	k = keeper{}
	for range 10 {
		if k.look(500*mib, 300*mib, 0).free {
			t.Fatal("memory that is needed is given back")
		}
	}
}
