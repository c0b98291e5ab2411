package handover

import (
	"fmt"
	"slices"
	"testing"
)

// TestPick: the heir with the most room of the newest generation, as long as it has
// any.
func TestPick(t *testing.T) {
	type grant struct {
		id uint64
		n  int
	}
	for name, tt := range map[string]struct {
		join   map[uint64]uint64 // generations
		grants []grant
		want   string // heir and descriptors, as Pick(10) gives them one after another
		full   bool   // then
	}{
		"nobody":                    {nil, nil, "", false},
		"one that has said nothing": {map[uint64]uint64{1: 1}, nil, "", false},
		"one":                       {map[uint64]uint64{1: 1}, []grant{{1, 25}}, "1:10 1:10 1:5", false},
		"one that is full":          {map[uint64]uint64{1: 1}, []grant{{1, 0}}, "", true},
		"full, with room granted":   {map[uint64]uint64{1: 1}, []grant{{1, 12}, {1, 0}}, "1:10 1:2", true},
		"full no more":              {map[uint64]uint64{1: 1}, []grant{{1, 0}, {1, 3}}, "1:3", false},
		"the one with more room":    {map[uint64]uint64{1: 1, 2: 1}, []grant{{1, 15}, {2, 16}}, "2:10 1:10 2:6 1:5", false},
		"one of two is full":        {map[uint64]uint64{1: 1, 2: 1}, []grant{{1, 0}, {2, 4}}, "2:4", false},
		"both are full":             {map[uint64]uint64{1: 1, 2: 1}, []grant{{1, 0}, {2, 0}}, "", true},
		"the newest generation":     {map[uint64]uint64{1: 1, 2: 2}, []grant{{1, 90}, {2, 7}}, "2:7", false},
		"the newest says nothing":   {map[uint64]uint64{1: 1, 2: 2}, []grant{{1, 90}}, "", false},
		"the newest is full":        {map[uint64]uint64{1: 1, 2: 2}, []grant{{1, 90}, {2, 0}}, "", true},
		"a stranger":                {map[uint64]uint64{1: 1}, []grant{{7, 90}}, "", false},
	} {
		var g Giver[int]
		for id := range uint64(9) {
			if generation, ok := tt.join[id]; ok {
				g.Join(id, generation)
			}
		}
		for _, gr := range tt.grants {
			g.Grant(gr.id, gr.n)
		}
		got := ""
		for {
			id, n, ok := g.Pick(10)
			if !ok {
				break
			}
			got += fmt.Sprintf(" %d:%d", id, n)
		}
		if len(got) > 0 {
			got = got[1:]
		}
		if got != tt.want || g.Full() != tt.full {
			t.Errorf("%s: picked %q, full is %v; want %q, %v", name, got, g.Full(), tt.want, tt.full)
		}
	}
}

// TestPickWhenTheNewestHasLeft: the generation before it takes what it can.
func TestPickWhenTheNewestHasLeft(t *testing.T) {
	var g Giver[int]
	g.Join(1, 1)
	g.Join(2, 2)
	g.Grant(1, 5)
	g.Grant(2, 5)
	g.Leave(2)
	if id, n, ok := g.Pick(10); id != 1 || n != 5 || !ok {
		t.Errorf("picked %d:%d, %v", id, n, ok)
	}
}

// offered is a giver with two heirs, the first of which was offered 10 11 12, then
// 20 21, and the second 30.
func offered(t *testing.T) (g *Giver[int], seqs []uint64) {
	t.Helper()
	g = new(Giver[int])
	g.Join(1, 1)
	g.Join(2, 1)
	for _, o := range []struct {
		id    uint64
		items []int
	}{{1, []int{10, 11, 12}}, {2, []int{30}}, {1, []int{20, 21}}} {
		seq, ok := g.Offer(o.id, o.items, 0)
		if !ok || slices.Contains(seqs, seq) || seq == 0 {
			t.Fatalf("offered %v as %d, %v", o.items, seq, ok)
		}
		seqs = append(seqs, seq)
	}
	return g, seqs
}

// TestAnswer: what was offered comes out once, and as the answer says.
func TestAnswer(t *testing.T) {
	for name, tt := range map[string]struct {
		id          uint64
		offer       int // of offered's, or -1 for 0, or 9 for one that never was
		all         bool
		refused     []int
		taken, kept string
	}{
		"all taken":                     {1, 0, false, nil, "[10 11 12]", "[]"},
		"none taken":                    {1, 0, true, nil, "[]", "[10 11 12]"},
		"none taken, whatever it lists": {1, 0, true, []int{1}, "[]", "[10 11 12]"},
		"some taken":                    {1, 0, false, []int{2, 0}, "[11]", "[10 12]"},
		"all listed":                    {1, 2, false, []int{0, 1}, "[]", "[20 21]"},
		"listed twice":                  {1, 2, false, []int{0, 0}, "[21]", "[20]"},
		"places that are none":          {1, 2, false, []int{-1, 2, 1 << 40}, "[20 21]", "[]"},
		"the later one first":           {1, 2, false, nil, "[20 21]", "[]"},
		"of another heir":               {2, 0, false, nil, "[]", "[]"},
		"of a stranger":                 {3, 0, false, nil, "[]", "[]"},
		"of nothing":                    {1, 9, true, nil, "[]", "[]"},
		"of the oldest":                 {1, -1, true, nil, "[]", "[10 11 12]"},
	} {
		g, seqs := offered(t)
		seq := uint64(99)
		switch {
		case tt.offer < 0:
			seq = 0
		case tt.offer < len(seqs):
			seq = seqs[tt.offer]
		}
		taken, kept := g.Answer(tt.id, seq, tt.all, tt.refused)
		if fmt.Sprint(taken) != tt.taken || fmt.Sprint(kept) != tt.kept {
			t.Errorf("%s: taken %v, kept %v; want %s, %s", name, taken, kept, tt.taken, tt.kept)
		}
		if seq != 0 {
			if taken, kept := g.Answer(tt.id, seq, tt.all, tt.refused); taken != nil || kept != nil {
				t.Errorf("%s: answered again: taken %v, kept %v", name, taken, kept)
			}
		}
		all := append(append(slices.Clone(taken), kept...), append(g.Leave(1), g.Leave(2)...)...)
		slices.Sort(all)
		if fmt.Sprint(all) != "[10 11 12 20 21 30]" {
			t.Errorf("%s: with what comes back at the heirs' ends: %v", name, all)
		}
	}
}

// TestLeave: what an heir has not answered for comes back with its end, in order and
// once, and nothing is offered to it any more.
func TestLeave(t *testing.T) {
	g, seqs := offered(t)
	g.Answer(1, seqs[0], false, []int{1})
	if back := g.Leave(1); fmt.Sprint(back) != "[20 21]" {
		t.Errorf("came back: %v", back)
	}
	if back := g.Leave(1); back != nil {
		t.Errorf("came back again: %v", back)
	}
	if taken, kept := g.Answer(1, seqs[2], false, nil); taken != nil || kept != nil {
		t.Errorf("answered after its end: %v, %v", taken, kept)
	}
	g.Grant(1, 100)
	if _, _, ok := g.Pick(1); ok {
		t.Error("somebody was picked who has left")
	}
	if _, ok := g.Offer(1, []int{40}, 0); ok {
		t.Error("offered to somebody who has left")
	}
}

// TestRoom: what Pick took is given back as far as it was not used, and whole if the
// offer could not be sent.
func TestRoom(t *testing.T) {
	var g Giver[int]
	room := func(want int) {
		t.Helper()
		if got := g.heirs[0].room; got != want {
			t.Errorf("room for %d, want %d", got, want)
		}
	}
	g.Join(1, 1)
	g.Grant(1, 20)
	g.Pick(8)
	room(12)
	g.Offer(1, nil, 8)
	room(20)
	g.Pick(8)
	seq, _ := g.Offer(1, []int{1, 2}, 3)
	room(15)
	if kept := g.Unsent(1, seq, 5); fmt.Sprint(kept) != "[1 2]" {
		t.Errorf("unsent: %v", kept)
	}
	room(20)
	g.Pick(1)
	g.Offer(1, []int{3}, -2) // the first one may take more than was asked for
	room(19)
	if kept := g.Unsent(2, 1, 5); kept != nil {
		t.Errorf("unsent to a stranger: %v", kept)
	}
}
