package eventloop

// batch is how many connections one turn accepts from a listener. One accept more than
// there are connections costs a system call for nothing, so it grows only after
// it was filled several times in a row, and after more of them each time that this
// turned out to be too much.
type batch struct {
	size  int // accepts in the next turn
	full  int // times in a row that it was filled
	trial int // times that make it grow
}

const (
	// maxBatch bounds the accepts from one listener in one turn.
	maxBatch = 64
	minTrial = 4
	maxTrial = 256
)

// filled records that there was a connection for each accept.
func (b *batch) filled() {
	if b.size > 1 {
		b.trial = minTrial
	}
	if b.full++; b.full >= b.trial {
		b.size, b.full = min(2*b.size, maxBatch), 0
	}
}

// missed records that there was one too few.
func (b *batch) missed() {
	if b.size > 1 {
		b.trial = min(2*b.trial, maxTrial)
	}
	b.size, b.full = max(1, b.size/2), 0
}
