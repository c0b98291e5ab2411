package main

import "reuseportd/internal/control"

type reloadCmd struct {
	changeFlags
}

// Run asks for a reload.
func (r *reloadCmd) Run(c *cli) error {
	return c.change(control.Request{Command: "reload"}, r.changeFlags)
}
