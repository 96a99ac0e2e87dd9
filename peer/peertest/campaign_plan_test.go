package peertest_test

import (
	"fmt"
	"time"

	"ckt.local/circuit"
	"ckt.local/transport/limit"
	"ckt.local/transport/simnet"
)

// A plan is everything that a seed decides before a run begins. Times count
// from the beginning of the run.
type plan struct {
	seed     uint64
	hosts    int
	circuit  circuit.Config
	limits   limit.Limits
	link     simnet.Link // between any two hosts in calm times
	nat      simnet.NATConfig
	behind   int // the host behind a NAT; -1: none
	mover    int // the host that changes its address; -1: all, in turn
	circuits []circuitPlan
	faults   []fault       // by time
	moved    []superseding // of circuits to other streams, in builds that can
	calm     time.Duration // when everything is mended for good
}

// A circuitPlan says what becomes of one circuit.
type circuitPlan struct {
	id       int
	from, to int // hosts
	at       time.Duration
	again    bool        // by NewCircuit of one that is open, if there is one
	first    bool        // fragment 1 of the opener goes with the opening
	flows    [2]flowPlan // what the opener sends, and what the acceptor sends
	close    closePlan
}

// A flowPlan is one direction of a circuit.
type flowPlan struct {
	fragments     int64
	tail          int64 // of them, those that are sent when the network is mended for good
	size          sizeClass
	gap           time.Duration // mean time between fragments
	send          sendMode
	flushEvery    int64         // after so many fragments it waits for their acknowledgement; 0: never
	errEvery      int64         // every so manieth fragment carries Err; 0: none
	fragmentsLoop bool          // the receiver ranges over Fragments; else it selects on Reads and Errors
	readGap       time.Duration // the receiver takes so long for a fragment
	stallAt       int64         // before it takes this one, it does nothing for stall
	stall         time.Duration
}

// A sizeClass says how long payloads are.
type sizeClass int

const (
	tiny   sizeClass = iota // at most 64 bytes
	small                   // at most 1 KiB
	medium                  // at most 32 KiB
	large                   // 64 KiB to the limit
)

// A sendMode says how a sender copes with a full window.
type sendMode int

const (
	sendWaits   sendMode = iota // Send for as long as it takes
	sendBounded                 // Send with a time limit, again and again
	sendOneWay                  // SendOneWay, again and again
	sendMixed
	sendModes
)

// A closePlan says which side closes a circuit and when.
type closePlan struct {
	side   int // 0: the opener
	both   bool
	when   closeWhen
	after  time.Duration
	reason bool
}

type closeWhen int

const (
	closePolitely closeWhen = iota // when everything of both sides has come
	closeAbruptly                  // when everything of its own is sent
	closeMidway                    // some time after the opening
)

// A fault is something that happens to the world for a while.
type fault struct {
	kind  faultKind
	at    time.Duration
	lasts time.Duration
	a, b  int // hosts; b is -1 for all others
	link  simnet.Link
}

func (f fault) String() string {
	switch f.kind {
	case faultKill, faultStop, faultMove, faultRebind:
		return fmt.Sprintf("%s host %d for %v", f.kind, f.a, f.lasts)
	}
	return fmt.Sprintf("%s %d-%d for %v", f.kind, f.a, f.b, f.lasts)
}

type faultKind string

const (
	faultCut       faultKind = "cut"         // both ways between two hosts
	faultCutOneWay faultKind = "one-way cut" // from a to b
	faultIsolate   faultKind = "isolation"   // one host from all others
	faultFlap      faultKind = "flapping"    // many short cuts
	faultRough     faultKind = "rough link"  // loss, jitter, copies, damage
	faultNarrow    faultKind = "narrow link" // low bandwidth
	faultKill      faultKind = "kill"        // the process dies, and another one comes
	faultStop      faultKind = "stop"        // the node is closed, and another one comes
	faultMove      faultKind = "move"        // the host gets another address
	faultRebind    faultKind = "rebinding"   // its NAT forgets what it knows
)

// A superseding moves a circuit to another stream of its connection. That is
// no fault of the network, and nothing in the product does it.
type superseding struct {
	at      time.Duration
	circuit int
}
