package failure

import (
	"slices"
	"strconv"
	"testing"
	"time"
)

func TestOncePerSecond(t *testing.T) {
	var got []Failure
	teller := New(func(f Failure) { got = append(got, f) })
	refused := Failure{Listener: "db", Upstream: "app", Server: "10.0.0.1:5432", Reason: "connection refused"}
	slow := refused
	slow.Reason = "connect timeout"
	other := refused
	other.Server = "10.0.0.2:5432"
	const second = int64(time.Second)
	for _, step := range []struct {
		at int64
		f  Failure
	}{
		{5, refused},
		{6, refused},
		{7, slow},
		{8, other},
		{4 + second, refused},
		{5 + second, refused}, // 2 were suppressed
		{6 + second, refused},
		{5 + 9*second, refused}, // 1 was
		{6 + 20*second, refused},
	} {
		teller.Tell(step.at, step.f)
	}
	two, one := refused, refused
	two.Suppressed, one.Suppressed = 2, 1
	if want := []Failure{refused, slow, other, two, one, refused}; !slices.Equal(got, want) {
		t.Errorf("told:\n%+v\nwant:\n%+v", got, want)
	}
}

// However many kinds there are, the memory for them is bounded, and what goes on
// happening costs none.
func TestBounds(t *testing.T) {
	told := 0
	teller := New(func(Failure) { told++ })
	for i := range 10 * maxKinds {
		teller.Tell(int64(i), Failure{Server: strconv.Itoa(i)})
	}
	if told != 10*maxKinds || len(teller.kinds) > maxKinds {
		t.Errorf("%d were told, %d are remembered", told, len(teller.kinds))
	}
	f := Failure{Server: "a"}
	teller.Tell(0, f)
	if n := testing.AllocsPerRun(100, func() { teller.Tell(1, f) }); n > 0 {
		t.Errorf("%v allocations", n)
	}
	New(nil).Tell(0, f)
}
