// Package serving tests what serves between changes: TLS, materials, limits, logs, the sandbox, steering. Its clients are in
// meter and kit, its processes in harness. It must never wait for a time where it could wait for an event.
package serving

import (
	"testing"

	"reuseportd/test/harness"
)

func TestMain(m *testing.M) { harness.Main(m) }
