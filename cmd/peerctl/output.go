package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

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
		fmt.Fprintf(a.stderr, format+"\n", allPlain(args)...)
	}
}

// plain returns s as it is if it prints as what it is, and quoted if not.
// File names, and what other nodes say, must not move a terminal's cursor,
// begin new lines or columns, or read backwards. Everything foreign that is
// printed for people passes here; JSON has its own quoting.
func plain(s string) string {
	for i, r := range s {
		if !strconv.IsPrint(r) || r == utf8.RuneError && !strings.HasPrefix(s[i:], string(r)) {
			return strconv.Quote(s)
		}
	}
	return s
}

// allPlain makes texts and errors among args plain.
func allPlain(args []any) []any {
	safe := slices.Clone(args)
	for i, arg := range safe {
		switch v := arg.(type) {
		case string:
			safe[i] = plain(v)
		case error:
			safe[i] = plain(v.Error())
		}
	}
	return safe
}

// number is n of a thing, "1 file" or "2 files".
func number[N int | int64](n N, thing string) string {
	switch {
	case n == 1:
	case strings.HasSuffix(thing, "y") && !strings.HasSuffix(thing, "ey"):
		thing = strings.TrimSuffix(thing, "y") + "ies"
	default:
		thing += "s"
	}
	return strconv.FormatInt(int64(n), 10) + " " + thing
}

func isTerminal(f *os.File) bool { return term.IsTerminal(int(f.Fd())) }

// size prints a number of bytes for people, in binary units.
func size(n int64) string {
	const unit = 1024
	if n < unit {
		return number(n, "byte")
	}
	value, prefix := float64(n)/unit, 0
	for value >= unit && prefix < len("KMGTPE")-1 {
		value /= unit
		prefix++
	}
	return fmt.Sprintf("%.1f %ciB", value, "KMGTPE"[prefix])
}
