// Package masters tests what one master leaves to the next: upgrades, takeovers, custody, adoption of a killed one's workers, and who
// else may come into its place. Its clients are in meter and kit, its processes in harness. It must never wait for a time
// where it could wait for an event.
package masters

import (
	"os"
	"testing"

	"reuseportd/test/harness"
)

func TestMain(m *testing.M) {
	if os.Getenv(listenEnv) != "" {
		listener()
	}
	harness.Main(m)
}
