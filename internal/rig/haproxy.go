package rig

import (
	"os/exec"
	"path/filepath"
	"syscall"
)

// NewHAProxy finds HAProxy, whose files are named after name, and gives it the
// configuration file that it returns; flags are further ones. Its address is
// free. The error is that of exec.LookPath if there is none.
func NewHAProxy(dir, name string, flags ...string) (s *Server, conf string, err error) {
	path, err := exec.LookPath("haproxy")
	if err != nil {
		return nil, "", err
	}
	if path, err = filepath.EvalSymlinks(path); err != nil {
		return nil, "", err
	}
	address, err := FreeAddress()
	if err != nil {
		return nil, "", err
	}
	conf = filepath.Join(dir, name+".cfg")
	return &Server{
		Name:    "HAProxy",
		Version: FirstLine(exec.Command(path, "-v")),
		Address: address,
		Args:    append([]string{path, "-f", conf}, flags...),
		Quit:    syscall.SIGTERM,
		Log:     filepath.Join(dir, name+".log"),
	}, conf, nil
}
