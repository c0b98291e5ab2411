// Package changes tests reloads, rollbacks, workers that die, and what a change does at the limits of descriptors and processes. Its clients are in
// meter and kit, its processes in harness. It must never wait for a time where it could wait for an event.
package changes

import (
	"testing"

	"reuseportd/test/harness"
)

func TestMain(m *testing.M) { harness.Main(m) }
