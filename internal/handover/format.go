//go:build !nextformat

package handover

import "reuseportd/internal/pack"

// Format is the form in which this release writes items. A release reads its own and all
// earlier ones. It changes when an earlier release would misread what is written.
const Format = 3

// formatOf returns the form in which items are written: the oldest that can express
// them, so that an earlier release can take them.
func formatOf(items []Item) int {
	format := 1
	for i := range items {
		switch {
		case items[i].sealed():
			return 3
		case items[i].joined():
			format = 2
		}
	}
	return format
}

// appendLater and readLater are for what later formats add after each item.
func appendLater(b []byte) []byte { return b }

func readLater(*pack.Reader, int) {}
