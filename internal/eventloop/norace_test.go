//go:build !race

package eventloop_test

const raceDetector = false
