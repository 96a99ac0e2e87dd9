package couriertest

import (
	"encoding/json"
	"io"
	"sync"
	"time"
)

// The kinds of Event.
const (
	Listening = "listening" // URL; the node can be reached from now on
	Opened    = "opened"    // Peer; a circuit is open, and both sides know each other's life
	Progress  = "progress"  // Sent, Received, Newest; ten times a second while something moves
	Gap       = "gap"       // From, To; nothing came in between, although somebody was sending
	State     = "state"     // Attached, Attachments, Text
	Lost      = "lost"      // Peer, Unacked, Restarted, Text; a circuit has ended without being closed
	Failed    = "failed"    // Text; an opening has failed, and is tried again
	Done      = "done"      // Sent, Received, …; all that either side sent has arrived
	Wrong     = "wrong"     // Text; the promise is broken
)

// An Event is one line of a courier's output.
type Event struct {
	Kind string
	At   time.Time
	URL  string `json:",omitzero"`
	Text string `json:",omitzero"`
	Peer uint32 `json:",omitzero"` // the life of the courier at the other end

	Sent     uint64    `json:",omitzero"` // fragments of this circuit
	Received uint64    `json:",omitzero"`
	Newest   time.Time `json:",omitzero"` // when the last fragment that came was sent

	From time.Time `json:",omitzero"`
	To   time.Time `json:",omitzero"`

	Attached    bool  `json:",omitzero"`
	Attachments int   `json:",omitzero"`
	Replayed    int64 `json:",omitzero"`
	Duplicates  int64 `json:",omitzero"`
	Unacked     int   `json:",omitzero"`
	Restarted   bool  `json:",omitzero"`
}

// A report writes events, one line each.
type report struct {
	mu  sync.Mutex
	out *json.Encoder
}

func newReport(w io.Writer) *report { return &report{out: json.NewEncoder(w)} }

func (r *report) event(e Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	e.At = time.Now()
	_ = r.out.Encode(e) // who started it is gone; stdin ends the process
}
