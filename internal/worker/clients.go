package worker

import (
	"fmt"

	"reuseportd/internal/clients"
	"reuseportd/internal/config"
)

// openClients opens the service's table of clients; nil if the master sends none.
func openClients(fd int, format string) (*clients.Table, error) {
	if fd < 0 {
		return nil, nil
	}
	return clients.Adopt(fd, format)
}

// bindClients sets the bounds per client on the services of a loop, whose page of the ledger is
// page. A loop without such bounds gets no row in the table.
func (lp *loop) bindClients(page int) error {
	var row *clients.Row
	for i := range lp.w.conf.Listeners {
		l := &lp.w.conf.Listeners[i]
		if l.ClientConnections == 0 {
			continue
		}
		if row == nil {
			var err error
			if row, err = lp.clientsRow(page, l); err != nil {
				return err
			}
		}
		lp.services[l.Key()].SetBound(row.Bound(l.Key(), l.ClientConnections))
	}
	return nil
}

func (lp *loop) clientsRow(page int, l *config.Listener) (*clients.Row, error) {
	if lp.w.clients == nil {
		return nil, fmt.Errorf("listener %s: max_connections_per_client: the master sent no table", l.Name)
	}
	return lp.w.clients.Row(page)
}
