package shard

import (
	"time"
	"unsafe"

	"github.com/cilium/ebpf/asm"

	"reuseportd/internal/load"
)

const (
	// A loop is stuck if its current turn has taken longer than stuckBusy, or its latest one
	// began more than stuckIdle ago: it begins a turn every 20 ms at least
	// (eventloop.Options.Load).
	stuckBusy = 10 * time.Millisecond
	stuckIdle = 50 * time.Millisecond
	// lost is how long a loop may be stuck and still be chosen. If all are lost, the table
	// may have no master any more.
	lost = 10 * time.Second
	// epochShift makes epochs of 134 ms from nanoseconds.
	epochShift = 27
	// maxLooks bounds how many shards are compared for one connection.
	maxLooks = 64
	// maxScore bounds a score; those of stuck loops are above it.
	maxScore = 1 << 40
)

// Offsets in a load.Entry.
var (
	atTurn     = int16(unsafe.Offsetof(load.Entry{}.Turn))
	atBusy     = int16(unsafe.Offsetof(load.Entry{}.Busy))
	atOpen     = int16(unsafe.Offsetof(load.Entry{}.Open))
	atAccepted = int16(unsafe.Offsetof(load.Entry{}.Accepted))
	atServed   = int16(unsafe.Offsetof(load.Entry{}.Served))
	atDue      = int16(unsafe.Offsetof(load.Entry{}.Due))
	atSeen     = int16(unsafe.Offsetof(load.Entry{}.Seen))
	atEpoch    = int16(unsafe.Offsetof(load.Entry{}.Epoch))
)

// loadProgram returns the program that chooses among the first n shards. In other
// words:
//
//	for up to 64 shards, from a random one on, at even distances where there are more
//	(otherwise all might be loops of one worker that is stopped):
//		skip it unless it is served, or if its loop is lost
//		if its loop is stuck: the longer, the worse, and worse than any that isn't
//		else: open connections + those due, and a quarter of the events it has
//	choose the first of the best; one more connection is due there
//	if there is none: return n, which is no shard, so that the kernel's hash chooses
//
// The word that is compared holds score, distance from the first, and slot.
func loadProgram(table, n int) asm.Instructions {
	const (
		now, best, place, first = asm.R6, asm.R7, asm.R8, asm.R9
		slot, key               = -16, -4 // on the stack
	)
	lookup := func(miss string) asm.Instructions {
		return asm.Instructions{
			asm.StoreMem(asm.RFP, key, asm.R1, asm.Word),
			asm.LoadMapPtr(asm.R1, table),
			asm.Mov.Reg(asm.R2, asm.RFP),
			asm.Add.Imm(asm.R2, key),
			asm.FnMapLookupElem.Call(),
			asm.JEq.Imm(asm.R0, 0, miss),
		}
	}
	// due puts into R1 how many connections are due at the entry R0; it uses R4 and R5.
	due := func(label string) asm.Instructions {
		return asm.Instructions{
			asm.LoadMem(asm.R1, asm.R0, atDue, asm.DWord),
			asm.LoadMem(asm.R5, asm.R0, atEpoch, asm.DWord),
			asm.Mov.Reg(asm.R4, now),
			asm.RSh.Imm(asm.R4, epochShift),
			asm.Sub.Reg(asm.R4, asm.R5),
			asm.JSLT.Imm(asm.R4, 1, label+"-fresh"), // another CPU may be ahead
			asm.JLT.Imm(asm.R4, 32, label+"-halve"),
			asm.Mov.Imm(asm.R4, 32),
			asm.RSh.Reg(asm.R1, asm.R4).WithSymbol(label + "-halve"),
			asm.LoadMem(asm.R4, asm.R0, atAccepted, asm.DWord).WithSymbol(label + "-fresh"),
			asm.LoadMem(asm.R5, asm.R0, atSeen, asm.DWord),
			asm.Sub.Reg(asm.R4, asm.R5),
			asm.JLE.Reg(asm.R4, asm.R1, label+"-less"),
			asm.Mov.Reg(asm.R4, asm.R1),
			asm.Sub.Reg(asm.R1, asm.R4).WithSymbol(label + "-less"),
		}
	}
	prog := asm.Instructions{
		asm.FnKtimeGetNs.Call(),
		asm.Mov.Reg(now, asm.R0),
		asm.FnGetPrandomU32.Call(),
		asm.Mod.Imm32(asm.R0, int32(n)),
		asm.Mov.Reg(first, asm.R0),
		asm.Mov.Imm(best, -1),
		asm.Mov.Imm(place, 0),

		asm.Mov.Reg(asm.R1, place).WithSymbol("look"),
		asm.Mul.Imm(asm.R1, int32(max(1, n/maxLooks))),
		asm.Add.Reg(asm.R1, first),
		asm.JLT.Imm(asm.R1, int32(n), "in-range"),
		asm.Sub.Imm(asm.R1, int32(n)),
		asm.StoreMem(asm.RFP, slot, asm.R1, asm.DWord).WithSymbol("in-range"),
	}
	prog = append(prog, lookup("next")...)
	prog = append(prog,
		asm.LoadMem(asm.R1, asm.R0, atServed, asm.DWord),
		asm.JEq.Imm(asm.R1, 0, "next"),
		asm.LoadMem(asm.R3, asm.R0, atBusy, asm.DWord),
		asm.Mov.Imm(asm.R4, int32(stuckIdle)),
		asm.JEq.Imm(asm.R3, 0, "idle"),
		asm.Mov.Imm(asm.R4, int32(stuckBusy)),
		asm.LoadMem(asm.R5, asm.R0, atTurn, asm.DWord).WithSymbol("idle"),
		asm.Mov.Reg(asm.R2, now),
		asm.Sub.Reg(asm.R2, asm.R5),
		asm.JSGT.Reg(asm.R2, asm.R4, "stuck"),
	)
	prog = append(prog, due("look")...)
	prog = append(prog,
		asm.LoadMem(asm.R4, asm.R0, atOpen, asm.DWord),
		asm.Add.Reg(asm.R1, asm.R4),
		asm.LSh.Imm(asm.R1, 2),
		asm.Add.Reg(asm.R1, asm.R3),
		asm.LoadImm(asm.R4, maxScore, asm.DWord),
		asm.JLE.Reg(asm.R1, asm.R4, "compare"),
		asm.Mov.Reg(asm.R1, asm.R4),
		asm.Ja.Label("compare"),

		asm.LoadImm(asm.R4, int64(lost), asm.DWord).WithSymbol("stuck"),
		asm.JSGT.Reg(asm.R2, asm.R4, "next"),
		asm.LoadImm(asm.R1, maxScore, asm.DWord),
		asm.RSh.Imm(asm.R2, 10),
		asm.Add.Reg(asm.R1, asm.R2),
		asm.Add.Imm(asm.R1, 1),

		asm.LSh.Imm(asm.R1, 10).WithSymbol("compare"),
		asm.Or.Reg(asm.R1, place),
		asm.LSh.Imm(asm.R1, 10),
		asm.LoadMem(asm.R4, asm.RFP, slot, asm.DWord),
		asm.Or.Reg(asm.R1, asm.R4),
		asm.JGE.Reg(asm.R1, best, "next"),
		asm.Mov.Reg(best, asm.R1),

		// The verifier follows every iteration of the loop, separately for each value of best
		// that it can tell apart. This makes best unknown to it.
		asm.Xor.Reg(best, now).WithSymbol("next"),
		asm.Xor.Reg(best, now),
		asm.Add.Imm(place, 1),
		asm.JLT.Imm(place, int32(min(n, maxLooks)), "look"),

		asm.JEq.Imm(best, -1, "none"),
		asm.And.Imm(best, 1023),
		asm.Mov.Reg(asm.R1, best),
	)
	prog = append(prog, lookup("none")...)
	prog = append(prog, due("choose")...)
	return append(prog,
		asm.Add.Imm(asm.R1, 1),
		asm.StoreMem(asm.R0, atDue, asm.R1, asm.DWord),
		asm.LoadMem(asm.R4, asm.R0, atAccepted, asm.DWord),
		asm.StoreMem(asm.R0, atSeen, asm.R4, asm.DWord),
		asm.Mov.Reg(asm.R4, now),
		asm.RSh.Imm(asm.R4, epochShift),
		asm.StoreMem(asm.R0, atEpoch, asm.R4, asm.DWord),
		asm.Mov.Reg(asm.R0, best),
		asm.Return(),

		asm.Mov.Imm(asm.R0, int32(n)).WithSymbol("none"),
		asm.Return(),
	)
}
