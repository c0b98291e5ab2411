package upgrade

import (
	"encoding/json"

	"reuseportd/internal/control"
	"reuseportd/internal/rundir"
)

// receiptsFile keeps the receipts for a master that comes after a killed one.
const receiptsFile = "receipts.json"

// maxReceiptsSize bounds that file, in bytes.
const maxReceiptsSize = 4 << 20

// saveReceipts writes the receipts to the runtime directory, whole or not at all.
func saveReceipts(dir *rundir.Dir, receipts []*control.Receipt) error {
	text, err := json.Marshal(receipts)
	if err != nil {
		return err
	}
	return dir.WriteFile(receiptsFile, text, 0o600)
}

// loadReceipts returns what a killed master had saved; nothing if that is not to
// be had.
func loadReceipts(dir *rundir.Dir) []*control.Receipt {
	text, err := dir.ReadFile(receiptsFile, maxReceiptsSize)
	if err != nil {
		return nil
	}
	var receipts []*control.Receipt
	if json.Unmarshal(text, &receipts) != nil {
		return nil
	}
	return receipts
}

func removeReceipts(dir *rundir.Dir) {
	_ = dir.Remove(receiptsFile)
	_ = dir.Remove(receiptsFile + ".new")
}
