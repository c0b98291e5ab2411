package upgrade

import "reuseportd/internal/upstream"

// takeBoard goes on with what an earlier master or its workers knew of the servers of
// upstreams. Without it, as of an older release or of one whose form is another, all
// of it is found out anew: that is no reason to fail.
func (co *coordinator) takeBoard(fd int, format string) error {
	if fd >= 0 {
		board, err := upstream.AdoptBoard(fd, format)
		if err == nil {
			if co.tables.Board != nil {
				_ = co.tables.Board.Close()
			}
			co.tables.Board = board
			return nil
		}
		co.log.Warn().Err(err).Msg("what was known of the servers of upstreams can't be read; it is found out anew")
	}
	if co.tables.Board != nil {
		return nil // made at first start: nobody has another
	}
	var err error
	co.tables.Board, err = upstream.NewBoard()
	return err
}
