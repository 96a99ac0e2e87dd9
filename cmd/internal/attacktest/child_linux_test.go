package attacktest

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"syscall"
	"time"

	"ckt.local/peer"
	"ckt.local/transport/limit"
)

// roleVar is the environment variable with the job of a child process.
const roleVar = "CKT_ATTACKTEST_JOB"

// A job says what a child process is to be.
type job struct {
	Role       string // "node" or "pair"
	Key        string // file
	Authorized string // file; "": everybody may do everything
	Limits     limit.Limits
	Files      uint64 // bound on open file descriptors; 0: as it is

	// For a pair.
	Every time.Duration // one fragment per
	Extra []string      // files with the keys of newcomers
}

// An order is one line from the test to a child; the child answers each with
// one line.
type order struct {
	Do  string
	URL string
	N   int
}

// An answer is what comes back.
type answer struct {
	Err      string            `json:",omitzero"`
	URL      string            `json:",omitzero"`
	Took     time.Duration     `json:",omitzero"`
	N        int               `json:",omitzero"`
	Logs     map[string]int    `json:",omitzero"`
	Samples  map[string]string `json:",omitzero"` // the first record of each message
	Census   *census           `json:",omitzero"`
	Window   *window           `json:",omitzero"`
	FilesNow int               `json:",omitzero"`
}

// runChild does the job of a child process until its stdin ends.
func runChild(text string) error {
	var j job
	if err := json.Unmarshal([]byte(text), &j); err != nil {
		return err
	}
	if j.Files > 0 {
		if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: j.Files, Max: j.Files}); err != nil {
			return err
		}
	}
	out := json.NewEncoder(os.Stdout)
	var obey func(order) answer
	var end func()
	switch j.Role {
	case "node":
		v, err := newVictim(j)
		if err != nil {
			return err
		}
		obey, end = v.obey, v.close
	case "pair":
		p, err := newPair(j)
		if err != nil {
			return err
		}
		obey, end = p.obey, p.close
	default:
		return fmt.Errorf("no role %q", j.Role)
	}
	defer end()
	if err := out.Encode(obey(order{Do: "hello"})); err != nil {
		return err
	}
	return serveOrders(os.Stdin, out, obey)
}

func serveOrders(in io.Reader, out *json.Encoder, obey func(order) answer) error {
	for lines := bufio.NewScanner(in); lines.Scan(); {
		var o order
		if err := json.Unmarshal(lines.Bytes(), &o); err != nil {
			return err
		}
		if err := out.Encode(obey(o)); err != nil {
			return err
		}
	}
	return nil
}

func failed(err error) answer { return answer{Err: err.Error()} }

// openFiles counts the descriptors of this process.
func openFiles() int {
	d, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return -1
	}
	return len(d)
}

// policyOf is the policy of a child's node.
func policyOf(j job) peer.Policy {
	if j.Authorized == "" {
		return peer.AllowAll
	}
	return peer.AllowFile(j.Authorized)
}
