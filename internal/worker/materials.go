package worker

import (
	"fmt"

	"reuseportd/internal/failpoint"
	"reuseportd/internal/material"
	"reuseportd/internal/wire"
)

// openMaterials reads the materials that came with Start; fd is -1 if there were none.
func openMaterials(fd int) (*material.Set, error) {
	if fd < 0 {
		return nil, nil
	}
	raw, err := wire.ReadMemfd(fd)
	if err != nil {
		return nil, fmt.Errorf("read the materials from the master: %w", err)
	}
	return material.Decode(raw)
}

// renewMaterials replaces the contents in use. Answers that have begun continue with the old ones.
func (w *worker) renewMaterials(m wire.Message) error {
	var b wire.Materials
	if err := m.Decode(&b); err != nil {
		return err
	}
	if err := failpoint.Hit("worker-materials"); err != nil {
		w.send(wire.KindMaterialsTaken, wire.MaterialsTaken{Number: b.Number, Error: err.Error()})
		return nil
	}
	fd := -1
	if len(m.FDs) > 0 {
		fd = m.FDs[0]
	}
	set, err := openMaterials(fd)
	taken := wire.MaterialsTaken{Number: b.Number}
	swap := func() {}
	if err == nil {
		swap, err = w.renewTLS(set)
	}
	for _, s := range w.sites {
		if err == nil {
			err = s.Renew(set)
		}
	}
	if err == nil {
		swap()
	}
	if err != nil {
		taken.Error = err.Error()
	} else {
		w.materials = set
	}
	w.send(wire.KindMaterialsTaken, taken)
	return nil
}
