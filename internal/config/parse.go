package config

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"reuseportd/internal/config/yaml"
)

// maxFile is how long a configuration file may be, in bytes. The YAML parser
// takes about a second for the worst file of this length.
const maxFile = 1 << 20

// builtIn stands for the path of the embedded configuration in messages.
const builtIn = "(built-in default)"

//go:embed default.yaml
var defaultYAML []byte

// Default returns the embedded configuration.
func Default() *Config {
	c, err := parse("", defaultYAML, nil)
	if err != nil {
		panic("the embedded configuration is broken: " + err.Error()) // a test parses it
	}
	c.Credential = thisHost().defaultCredential()
	return c
}

// Load reads and parses a file. What is wrong with its contents comes back as
// Errors, a file that can't be read as another error.
func Load(path string) (*Config, error) {
	raw, inPlace, err := readDated(path)
	if err != nil {
		return nil, err
	}
	c, err := Parse(path, raw)
	if err != nil {
		return nil, err
	}
	c.InPlace = inPlace
	return c, nil
}

// Read returns the bytes of a configuration file, of bounded length, and their Hash.
func Read(path string) (raw []byte, hash string, err error) {
	if raw, _, err = readDated(path); err != nil {
		return nil, "", err
	}
	return raw, Hash(raw), nil
}

// readDated also returns when the file was written in place, Config.InPlace. It must
// not wait: a FIFO in the file's place would hold up the master for ever.
func readDated(path string) ([]byte, time.Time, error) {
	var inPlace time.Time
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, inPlace, fmt.Errorf("read the configuration: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, inPlace, fmt.Errorf("read the configuration: %w", err)
	}
	if info.IsDir() {
		return nil, inPlace, fmt.Errorf("read the configuration: %s is a directory", path)
	}
	if !info.Mode().IsRegular() {
		return nil, inPlace, fmt.Errorf("read the configuration: %s is not a regular file", path)
	}
	// Renaming a file, as giving it a mode, changes only its ctime, inode(7).
	if st, ok := info.Sys().(*syscall.Stat_t); ok && time.Unix(st.Ctim.Unix()).Compare(info.ModTime()) <= 0 {
		inPlace = info.ModTime()
	}
	raw, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, inPlace, fmt.Errorf("read the configuration: %w", err)
	}
	if len(raw) > maxFile {
		return nil, inPlace, fmt.Errorf("read the configuration: %s is longer than %s", path, shortSize(maxFile))
	}
	return raw, inPlace, nil
}

// Parse turns the bytes of a file into a Config and checks it against this
// machine: addresses, roots, directories, user and group. It binds no stream
// socket. The error, if any, is of type Errors. An empty path stands for the
// embedded default.
func Parse(path string, raw []byte) (*Config, error) { return parse(path, raw, thisHost()) }

// ParseTrusted parses bytes that another process of this service has already
// accepted with Parse, and makes only the checks that depend on nothing but
// the bytes. Credential is nil in its result, and Workers of "auto" is the
// calling process's own count: a worker takes both from the master.
func ParseTrusted(path string, raw []byte) (*Config, error) { return parse(path, raw, nil) }

// Hash returns the hash that names a configuration: SHA-256 in hex.
func Hash(raw []byte) string {
	sum := sha256.Sum256(raw)
	return hex.EncodeToString(sum[:])
}

// dialect is what is typical of configurations among YAML files.
var dialect = yaml.Dialect{
	Empty:     "the file holds no configuration",
	EmptyHint: "at least one listener is needed; see docs/CONFIGURATION.md",
	Hint: func(line string) string {
		if strings.Contains(line, "address:") && strings.Contains(line, "[") {
			return `put an IPv6 address in quotes, as in address: "[::1]:8080"`
		}
		return ""
	},
}

func parse(path string, raw []byte, h *host) (*Config, error) {
	rep := yaml.NewReport(cmp.Or(path, builtIn), raw)
	c := defaults()
	c.Path, c.Raw, c.SHA256 = path, bytes.Clone(raw), Hash(raw)

	if len(raw) > maxFile {
		rep.Add(Position{Line: 1, Column: 1}, "", "the configuration is longer than %s", shortSize(maxFile))
		return nil, rep.Err()
	}
	if root := yaml.Parse(rep, raw, dialect); root != nil {
		d := &decoder{rep: rep, host: h, path: path, schemas: schemas()}
		d.config(root, c)
	}
	if rep.Bad() {
		return nil, rep.Err()
	}
	c.Warnings = rep.Warnings()
	return c, nil
}
