package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
)

// A contender is one way of moving messages between two processes. Each is set
// up as its users would set it up for speed, and says how.
type contender interface {
	about() about

	// serve answers every channel that is opened until the process ends, with
	// [answer] or a [session] of its own, and returns what dial needs.
	serve(crowd crowd) (addr string, err error)

	// dial returns when the server has been reached; nothing is shared with
	// other clients of the process.
	dial(ctx context.Context, crowd crowd, addr string) (client, error)
}

// about is what RESULTS.md says of a contender.
type about struct {
	name     string
	module   string            // its module, "" for the standard library
	settings string            // what was changed, and how channels are made of it
	lacks    map[string]string // by workload: why it cannot take part
	extras   []string          // the extra workloads that it can do
}

// crowd says how many channels to expect. A good program gives few channels
// large buffers and many channels small ones.
type crowd bool

// The sizes of crowds.
const (
	few  crowd = false
	many crowd = true
)

// buffers is how large the buffers of a channel are.
func (c crowd) buffers() (read, write int) {
	if c == many {
		return 4 << 10, 4 << 10
	}
	return 256 << 10, 64 << 10
}

// A client is one node, connection or whatever a program has one of.
type client interface {
	// open makes a channel. A message given as first is sent with the opening
	// if that can be done. It may be called from several goroutines.
	open(first []byte) (channel, error)

	close() error
}

// A channel is an ordered, two-way stream of messages. One goroutine may send
// while another receives.
type channel interface {
	// send may keep the message in a buffer until flush, and not beyond its
	// return in the caller's slice.
	send(msg []byte) error

	flush() error

	// receive calls take for each message until that returns false, and
	// returns nil then. The message is valid during the call. At the end of
	// the channel it returns io.EOF, or another error.
	receive(take func(msg []byte) (more bool)) error

	close() error
}

// contenders are all there are, ckt first, the floor last.
func contenders() []contender {
	return []contender{
		cktContender{},
		grpcContender{}, drpcContender{}, natsContender{},
		libp2pContender{overQUIC: true}, libp2pContender{},
		websocketContender{}, netRPCContender{},
		quicContender{}, quicContender{offload: true}, tlsContender(), tcpContender(),
	}
}

// pick returns the contenders with those names, all if there are none.
func pick(names []string) ([]contender, error) {
	all := contenders()
	if len(names) == 0 {
		return all, nil
	}
	var out []contender
	for _, name := range names {
		i := slices.IndexFunc(all, func(c contender) bool { return c.about().name == name })
		if i < 0 {
			return nil, fmt.Errorf("no contender is called %q; there are %s", name, strings.Join(contenderNames(), ", "))
		}
		out = append(out, all[i])
	}
	return out, nil
}

func contenderNames() []string {
	var names []string
	for _, c := range contenders() {
		names = append(names, c.about().name)
	}
	return names
}
