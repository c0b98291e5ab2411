package main

import (
	"errors"
	"os/exec"
	"testing"

	"reuseportd/internal/rig"
)

// Both floors compile without a warning that matters, and serve.
func TestFloors(t *testing.T) {
	if err := rig.Adopt(); err != nil {
		t.Fatal(err)
	}
	for _, make := range []func() (*contender, error){
		func() (*contender, error) { return floor(t.Context(), t.TempDir()) },
		func() (*contender, error) { return uringFloor(t.Context(), t.TempDir()) },
	} {
		c, err := make()
		if errors.Is(err, exec.ErrNotFound) {
			t.Fatal("no gcc, which the README asks for")
		}
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Start(t.Context()); err != nil {
			if c.Name == "uring" {
				t.Logf("io_uring is not permitted here, or older than the floor needs: %v", err)
				continue
			}
			t.Fatal(err)
		}
		conns, err := rig.OpenIdle(t.Context(), c.doors[doorSmall], 10)
		if lost := rig.CountLost(conns); err != nil || lost > 0 {
			t.Errorf("%s: %d of 10 kept connections lost, error %v", c.Name, lost, err)
		}
		rig.CloseAll(conns)
		for range 10 {
			conn, err := rig.Dial(t.Context(), c.doors[doorChurn])
			if err != nil {
				t.Fatal(err)
			}
			if closing, err := conn.Exchange(true); err != nil || !closing {
				t.Errorf("%s: a fresh connection: closing %v, error %v", c.Name, closing, err)
			}
			conn.Close()
		}
		c.Stop()
	}
}
