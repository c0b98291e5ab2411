package upgrade

import "reuseportd/internal/clients"

// takeClients goes on with what an earlier master's workers have counted of clients. Without it,
// as of an older release or of one whose form is another, they count anew: that is no reason
// to fail.
func (co *coordinator) takeClients(fd int, format string) error {
	if fd >= 0 {
		table, err := clients.Adopt(fd, format)
		if err == nil {
			if co.tables.Clients != nil {
				_ = co.tables.Clients.Close()
			}
			co.tables.Clients = table
			return nil
		}
		co.log.Warn().Err(err).Msg("how many connections each client has can't be read; new workers count anew")
	}
	if co.tables.Clients != nil {
		return nil // made at first start: nobody has another
	}
	var err error
	co.tables.Clients, err = clients.New()
	return err
}
