package config

// Sandbox says which of the kernel's means confine workers, where the kernel has them.
type Sandbox struct {
	Seccomp  bool // no system calls but those that a worker makes
	Landlock bool // no files but those below the roots, and few of the system's
}

var defaultSandbox = Sandbox{Seccomp: true, Landlock: true}

var sandboxObject = object[Sandbox]{at: "sandbox", what: "sandbox", switches: true, fields: []field[Sandbox]{
	{"seccomp", boolInto(func(s *Sandbox) *bool { return &s.Seccomp })},
	{"landlock", boolInto(func(s *Sandbox) *bool { return &s.Landlock })},
}}
