package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"

	"golang.org/x/term"
)

// A result is what a command has to say on stdout: with its fields as JSON,
// or with text for people.
type result interface {
	text(w io.Writer) error
}

// print writes r to stdout, in one piece, so that whoever reads line by line
// has it at once.
func (a *app) print(r result) error {
	if a.asJSON {
		return json.NewEncoder(a.stdout).Encode(r)
	}
	return r.text(a.stdout)
}

// say tells people on stderr how things go. With --json stderr is for errors.
func (a *app) say(format string, args ...any) {
	if !a.asJSON {
		fmt.Fprintf(a.stderr, format+"\n", args...)
	}
}

func isTerminal(f *os.File) bool { return term.IsTerminal(int(f.Fd())) }

// size prints a number of bytes for people, in binary units.
func size(n int64) string {
	const unit = 1024
	if n < unit {
		return fmt.Sprintf("%d bytes", n)
	}
	value, prefix := float64(n)/unit, 0
	for value >= unit && prefix < len("KMGTPE")-1 {
		value /= unit
		prefix++
	}
	return fmt.Sprintf("%.1f %ciB", value, "KMGTPE"[prefix])
}
