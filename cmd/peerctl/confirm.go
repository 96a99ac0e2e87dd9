package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"strings"
)

// confirm asks on the terminal whether a key is to be trusted.
func (a *app) confirm(ctx context.Context, e *newKeyError) error {
	tty, err := os.OpenFile("/dev/tty", os.O_RDWR, 0)
	if err != nil {
		return e
	}
	defer tty.Close()
	fmt.Fprintf(tty, "Nothing is known here of the node at %s. Its node ID is\n  %v\nwhich \"peerctl id\" prints on that machine.\n", plain(e.addr), e.id)
	const tries = 3
	answers := readLines(tty, tries)
	for range tries {
		fmt.Fprint(tty, "Trust it at this address from now on (yes, no, or its node ID)? ")
		select {
		case <-ctx.Done():
			fmt.Fprintln(tty)
			return context.Cause(ctx)
		case answer, ok := <-answers:
			switch {
			case answer == "yes", answer == e.id.String():
				return nil
			case answer == "no", !ok:
				return &newKeyError{addr: e.addr, id: e.id, asked: true}
			case len(answer) == len(e.id.String()):
				fmt.Fprintln(tty, "That is another node ID.")
				return &newKeyError{addr: e.addr, id: e.id, asked: true}
			}
		}
	}
	return &newKeyError{addr: e.addr, id: e.id, asked: true}
}

// readLines gives the first lines of r, and ends with it. Nothing can
// interrupt a read of a terminal: the goroutine ends with what is typed, or
// with the process.
func readLines(r io.Reader, most int) <-chan string {
	lines := make(chan string, most)
	go func() {
		defer close(lines)
		const longest = 4096 // as much as a terminal gives for a line
		in := bufio.NewReader(io.LimitReader(r, int64(most*longest)))
		for range most {
			line, err := in.ReadString('\n')
			if err != nil {
				return
			}
			lines <- strings.TrimSpace(line)
		}
	}()
	return lines
}
