package wire

import "strconv"

// Kind says what a message is. The numbers are part of the protocol: a kind is never
// renumbered or used for something else, since the two ends may be of different releases.
type Kind uint16

// Between a master (M) and a worker (W). The bodies are in worker.go.
const (
	KindStart          Kind = 1  // M→W: be this worker, with these descriptors
	KindReady          Kind = 2  // W→M: everything is built, nothing accepts yet
	KindFailed         Kind = 3  // W→M: it can't be built, and why
	KindLend           Kind = 4  // M→W: accept from these shards
	KindLent           Kind = 5  // W→M: they are registered, or why not
	KindWithdraw       Kind = 6  // M→W: stop accepting from these shards and close them
	KindWithdrawn      Kind = 7  // W→M: they are closed here
	KindDrain          Kind = 8  // M→W: accept no more, finish, exit
	KindPing           Kind = 9  // M→W: is every loop still running?
	KindPong           Kind = 10 // W→M: every loop is
	KindLogs           Kind = 11 // M→W: log files were reopened, here they are
	KindBye            Kind = 12 // W→M: about to exit, and why
	KindHeir           Kind = 13 // M→W: this worker takes your connections
	KindWard           Kind = 14 // M→W: take this worker's connections
	KindRescue         Kind = 15 // M→W: wait for a next master at this socket from now on
	KindMemory         Kind = 16 // M→W: your share of memory has changed
	KindLost           Kind = 17 // W→M: a message came without its descriptors
	KindMaterials      Kind = 18 // M→W: files that the configuration names have new contents, here they are
	KindMaterialsTaken Kind = 19 // W→M: they are in use, or why not
)

// Between an old master and the one that takes custody.
const (
	KindHello      Kind = 32 // who asks, and which version it speaks
	KindCommit     Kind = 33 // the next master goes ahead; it can't be undone
	KindCustody    Kind = 34 // a part of what is owned, with its descriptors
	KindCustodyEnd Kind = 35 // that was everything
	KindTaken      Kind = 36 // everything arrived
	KindGoodbye    Kind = 37 // the sender is about to exit
	KindReceipt    Kind = 38 // how the change ended
)

// Between a draining worker (D) and a serving one (S) that takes its connections.
const (
	KindGrant  Kind = 48 // S→D: you may offer so many more descriptors
	KindOffer  Kind = 49 // D→S: connections, with their descriptors
	KindAnswer Kind = 50 // S→D: which of them are the taker's now
)

// KindUnknown answers a message whose version or kind its receiver doesn't
// know; either side may send it.
const KindUnknown Kind = 64

var kindNames = map[Kind]string{
	KindStart:          "start",
	KindReady:          "ready",
	KindFailed:         "failed",
	KindLend:           "lend",
	KindLent:           "lent",
	KindWithdraw:       "withdraw",
	KindWithdrawn:      "withdrawn",
	KindDrain:          "drain",
	KindPing:           "ping",
	KindPong:           "pong",
	KindLogs:           "logs",
	KindBye:            "bye",
	KindHeir:           "heir",
	KindWard:           "ward",
	KindRescue:         "rescue",
	KindMemory:         "memory",
	KindLost:           "lost",
	KindMaterials:      "materials",
	KindMaterialsTaken: "materials-taken",
	KindGrant:          "grant",
	KindOffer:          "offer",
	KindAnswer:         "answer",
	KindHello:          "hello",
	KindCommit:         "commit",
	KindCustody:        "custody",
	KindCustodyEnd:     "custody-end",
	KindTaken:          "taken",
	KindGoodbye:        "goodbye",
	KindReceipt:        "receipt",
	KindUnknown:        "unknown",
}

// Known reports whether this release has a name for the kind.
func (k Kind) Known() bool { return kindNames[k] != "" }

// String returns the kind's name, or its number if it has none.
func (k Kind) String() string {
	if name := kindNames[k]; name != "" {
		return name
	}
	return "kind " + strconv.Itoa(int(k))
}
