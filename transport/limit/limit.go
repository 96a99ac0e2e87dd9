// Package limit bounds what other nodes may make this one spend, and counts it
// in one place: [Limits] is the configuration, a [Ledger] the account of one
// node, which its endpoint, its circuits and its peers all book in.
//
// What an identity uses is counted under its verified key, however many
// processes and connections it has. Whoever is at its bound is told so with a
// [transport.LimitError]; others have their own.
package limit

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"reflect"
)

// Limits are the bounds of one node, by layer. A zero field is its default; a
// negative one is no bound, where its comment does not say otherwise. "Of one
// node" is of all processes that prove the same key.
type Limits struct {
	Transport Transport `json:"transport"`
	Circuit   Circuit   `json:"circuit"`
	Peer      Peer      `json:"peer"`
}

// Transport bounds connections.
type Transport struct {
	// Handshakes is how many QUIC handshakes that others have begun may be
	// unfinished, of about 57 KiB each. Default 512.
	Handshakes int `json:"handshakes"`

	// RetryAbove is how many of them are served before further ones have to
	// prove their address first (QUIC Retry), and to hurry. Default 64,
	// negative: none.
	RetryAbove int `json:"retry_above"`

	// HandshakesPerAddr is how many of those beyond RetryAbove may come from
	// one IPv4 address or IPv6 /64. Default 16.
	HandshakesPerAddr int `json:"handshakes_per_addr"`

	// Conns is how many connections may be open, those dialled from here
	// included. Default 4096.
	Conns int `json:"conns"`

	// ConnsPerNode is how many of one node. Default 64.
	ConnsPerNode int `json:"conns_per_node"`

	// ConnsPerSecond is how many hellos of one node are answered in a second,
	// and as many at once after a pause. Default 64.
	ConnsPerSecond int `json:"conns_per_second"`

	// Streams is how many streams of one connection may be open at a time.
	// Default 65,536. One packet that names the last of them makes QUIC open
	// all, of about 2.5 KiB each, before anybody can book them; so there is no
	// way to have no bound: the most is 1,048,576, for other sides that are
	// trusted with 2.5 GiB.
	Streams int `json:"streams"`

	// Receive is how many bytes QUIC may keep that were not read yet, beyond
	// the first 2 MiB of each connection: its windows grow out of it. Default
	// 512 MiB.
	Receive int64 `json:"receive"`

	// ReceivePerNode is how many of one node. Default 128 MiB.
	ReceivePerNode int64 `json:"receive_per_node"`
}

// Circuit bounds circuits and fragments.
type Circuit struct {
	// Circuits is how many circuits that others have opened here may be open.
	// Default 131,072.
	Circuits int `json:"circuits"`

	// CircuitsPerNode is how many of one node. Default 16,384.
	CircuitsPerNode int `json:"circuits_per_node"`

	// OpensPerSecond is how many openings of one node are decided about in a
	// second, and as many at once after a pause. Default 16,384.
	OpensPerSecond int `json:"opens_per_second"`

	// Payload is the longest payload of a fragment, in bytes. Default 1 MiB,
	// at most 64 MiB. Like the next three, the smaller one of both sides
	// holds.
	Payload int `json:"payload"`

	// Args is how many pairs of Args a fragment may have. Default and most 64.
	Args int `json:"args"`

	// ArgBytes is how long their keys and values may be together. Default and
	// most 64 KiB. A key has at most 128 bytes.
	ArgBytes int `json:"arg_bytes"`

	// Text is how long Err may be, in bytes. Default and most 4 KiB. The
	// subject has at most 1 KiB of it.
	Text int `json:"text"`

	// Start is how much memory each circuit has for certain in each direction,
	// in bytes: what the other side may send before this side has said more.
	// Default 16 KiB, at least 1 KiB.
	Start int `json:"start"`

	// Window is how much of what is under way, or unread, a circuit may keep
	// in each direction because somebody wants to send that much, in bytes.
	// Each fragment counts 512 bytes more than its frame has, and 128 more for
	// each pair of Args. A longer fragment is let through alone. Default
	// 1 MiB, at most 1 GiB.
	Window int `json:"window"`

	// MaxWindow is how far that grows while it, and not the reader or the
	// path, holds the sender up. What a circuit has beyond Start goes back
	// when it has sent nothing for 5 s. Default 16 times Window, at most
	// 1 GiB; below Window: it does not grow.
	MaxWindow int `json:"max_window"`

	// Inbox is how many bytes may wait to be read here, or be allowed to come,
	// in all circuits together. Default 2 GiB.
	Inbox int64 `json:"inbox"`

	// InboxPerNode is how many from one node. Default 512 MiB.
	InboxPerNode int64 `json:"inbox_per_node"`

	// Replay is how many bytes may be kept in all circuits together because
	// the other sides have not acknowledged them. Default 2 GiB.
	Replay int64 `json:"replay"`

	// ReplayPerNode is how many for one node. Default 512 MiB.
	ReplayPerNode int64 `json:"replay_per_node"`
}

// Peer bounds peers, and what others may call things.
type Peer struct {
	// Started is how many peers that other nodes have started here may be
	// running. Default 4096.
	Started int `json:"started"`

	// StartedPerNode is how many of one node. Default 256.
	StartedPerNode int `json:"started_per_node"`

	// StartsPerSecond is how many requests of one node to start a peer are
	// decided about in a second, and as many at once after a pause. Default
	// 256.
	StartsPerSecond int `json:"starts_per_second"`

	// Name is the longest name of a service that may be asked for, in bytes.
	// Default and most 64.
	Name int `json:"name"`

	// URL is the longest peer URL that is taken, in bytes. Default and most
	// 512.
	URL int `json:"url"`
}

// The most that a bound can be where the wire format has one too.
const (
	mostStreams  = 1 << 20
	mostPayload  = 64 << 20
	mostArgs     = 64
	mostArgBytes = 64 << 10
	mostText     = 4 << 10
	leastStart   = 1 << 10
	mostWindow   = 1 << 30
	mostName     = 64
	mostURL      = 512
	growth       = 16
)

// WithDefaults returns l with its zero fields filled in, "no bound" as the
// largest number of the field's type, and no field beyond what it can be.
func (l Limits) WithDefaults() Limits {
	t, c, p := &l.Transport, &l.Circuit, &l.Peer
	bound(&t.Handshakes, 512)
	if t.RetryAbove < 0 {
		t.RetryAbove = math.MaxInt
	}
	bound(&t.RetryAbove, 64)
	bound(&t.HandshakesPerAddr, 16)
	bound(&t.Conns, 4096)
	bound(&t.ConnsPerNode, 64)
	bound(&t.ConnsPerSecond, 64)
	within(&t.Streams, 1<<16, 1, mostStreams)
	bound(&t.Receive, 512<<20)
	bound(&t.ReceivePerNode, 128<<20)

	bound(&c.Circuits, 1<<17)
	bound(&c.CircuitsPerNode, 1<<14)
	bound(&c.OpensPerSecond, 1<<14)
	within(&c.Payload, 1<<20, 1, mostPayload)
	within(&c.Args, mostArgs, 1, mostArgs)
	within(&c.ArgBytes, mostArgBytes, 1, mostArgBytes)
	within(&c.Text, mostText, 1, mostText)
	within(&c.Window, 1<<20, leastStart, mostWindow)
	within(&c.Start, min(16<<10, c.Window), leastStart, c.Window)
	if c.MaxWindow == 0 {
		c.MaxWindow = growth * min(c.Window, mostWindow/growth)
	}
	c.MaxWindow = min(max(c.MaxWindow, c.Window), mostWindow)
	bound(&c.Inbox, 2<<30)
	bound(&c.InboxPerNode, 512<<20)
	bound(&c.Replay, 2<<30)
	bound(&c.ReplayPerNode, 512<<20)

	bound(&p.Started, 4096)
	bound(&p.StartedPerNode, 256)
	bound(&p.StartsPerSecond, 256)
	within(&p.Name, mostName, 1, mostName)
	within(&p.URL, mostURL, 1, mostURL)
	return l
}

// Check returns an error if a bound on memory, its default included, is too
// small to let the longest fragment through beside 16 idle circuits: that takes
// Payload, 80 KiB for what a fragment may have besides, 16 times Start, and an
// eighth more, which is kept for new circuits.
func (l Limits) Check() error {
	const beside = 80 << 10
	c := l.WithDefaults().Circuit
	least := (int64(c.Payload)+beside+16*int64(c.Start))*reserve/(reserve-1) + 1
	for _, b := range []struct {
		name string
		n    int64
	}{{"inbox", c.Inbox}, {"inbox_per_node", c.InboxPerNode}, {"replay", c.Replay}, {"replay_per_node", c.ReplayPerNode}} {
		if b.n < least {
			return fmt.Errorf("limit: circuit.%s of %d bytes is too little for a payload of %d: it takes %d, or a smaller payload", b.name, b.n, c.Payload, least)
		}
	}
	return nil
}

// bound reads a number that may be unbounded.
func bound[T int | int64](v *T, def T) {
	switch {
	case *v == 0:
		*v = def
	case *v < 0:
		*v = unbounded[T]()
	}
}

// unbounded is what stands for no bound: the largest number of the type.
func unbounded[T int | int64]() T {
	most := T(math.MaxInt32)
	for wider := 2*most + 1; wider > most; wider = 2*most + 1 {
		most = wider
	}
	return most
}

// within reads a number that has to be between two others; negative is the
// most.
func within(v *int, def, least, most int) {
	if *v < 0 {
		*v = most
	}
	*v = min(max(cmp.Or(*v, def), least), most)
}

// maxFile bounds what [Read] takes, in bytes.
const maxFile = 64 << 10

// Read reads limits as JSON: an object with the layers, each an object with
// the fields in snake case, such as {"circuit":{"circuits_per_node":100}}. A
// name it does not know, be it in another spelling only, is an error, so that no
// bound is left out by a slip of the pen; so are a name twice, null, and more
// than 64 KiB.
func Read(r io.Reader) (Limits, error) {
	var l Limits
	data, err := io.ReadAll(io.LimitReader(r, maxFile+1))
	if err != nil {
		return l, fmt.Errorf("limit: %w", err)
	}
	if len(data) > maxFile {
		return l, fmt.Errorf("limit: more than %d bytes", maxFile)
	}
	if err := decode(data, &l); err != nil {
		return Limits{}, fmt.Errorf("limit: %w", err)
	}
	return l, nil
}

var (
	errTail  = errors.New("something follows the limits")
	errEmpty = errors.New("nothing in it: the defaults are written {}")
)

func decode(data []byte, l *Limits) error {
	if len(bytes.TrimSpace(data)) == 0 {
		return errEmpty
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	if err := checkShape(dec, reflect.TypeFor[Limits](), theFile); err != nil {
		return err
	}
	if _, err := dec.Token(); err != io.EOF {
		return errTail
	}
	if err := json.Unmarshal(data, l); err != nil {
		return badJSON(err)
	}
	return nil
}
