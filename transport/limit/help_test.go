package limit

import (
	"errors"
	"testing"

	"ckt.local/transport"
	"ckt.local/transport/identity"
)

func node(n int) (id identity.NodeID) {
	id[0], id[1], id[31] = byte(n), byte(n>>8), 1
	return id
}

// small are bounds that are soon reached.
func small() Limits {
	return Limits{
		Transport: Transport{Handshakes: 3, Conns: 4, ConnsPerNode: 2, ConnsPerSecond: 2, Receive: 100, ReceivePerNode: 60},
		Circuit:   Circuit{Circuits: 5, CircuitsPerNode: 3, OpensPerSecond: 4, Inbox: 1000, InboxPerNode: 600, Replay: 100, ReplayPerNode: 1000},
		Peer:      Peer{Started: 4, StartedPerNode: 2, StartsPerSecond: 1},
	}
}

func acquire(t *testing.T, g *Ledger, r Resource, id identity.NodeID, n, want int64) {
	t.Helper()
	used, err := g.Acquire(r, id, n)
	if err != nil || used != want {
		t.Fatalf("Acquire(%v, %d) = %d, %v; want %d", r, n, used, err, want)
	}
}

func refuse(t *testing.T, g *Ledger, r Resource, id identity.NodeID, n int64, want transport.LimitError) {
	t.Helper()
	_, err := g.Acquire(r, id, n)
	if e, ok := errors.AsType[*transport.LimitError](err); !ok || *e != want {
		t.Fatalf("Acquire(%v, %d): %v; want %+v", r, n, err, want)
	}
}

func use(g *Ledger, what string) Use {
	for _, u := range g.Uses() {
		if u.What == what {
			return u
		}
	}
	return Use{}
}
