package upgrade

import (
	"encoding/json"
	"os"
	"path/filepath"

	"reuseportd/internal/control"
)

// receiptsFile keeps the receipts for a master that comes after a killed one.
const receiptsFile = "receipts.json"

// saveReceipts writes the receipts to the runtime directory, whole or not at all.
func saveReceipts(dir string, receipts []*control.Receipt) error {
	text, err := json.Marshal(receipts)
	if err != nil {
		return err
	}
	path := filepath.Join(dir, receiptsFile)
	if err := os.WriteFile(path+".new", text, 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

// loadReceipts returns what a killed master had saved; nothing if that is not to
// be had.
func loadReceipts(dir string) []*control.Receipt {
	text, err := os.ReadFile(filepath.Join(dir, receiptsFile))
	if err != nil {
		return nil
	}
	var receipts []*control.Receipt
	if json.Unmarshal(text, &receipts) != nil {
		return nil
	}
	return receipts
}

func removeReceipts(dir string) {
	_ = os.Remove(filepath.Join(dir, receiptsFile))
	_ = os.Remove(filepath.Join(dir, receiptsFile+".new"))
}
