// Package circuit is the one abstraction of ckt: a [Circuit] is an ordered,
// two-way channel of fragments between two peers. It is accepted before it is
// open, bounded by credit in both directions, outlives the connection that
// carries it, and ends once, at both ends, with a cause.
//
// A [Link] is everything between two processes: their circuits, each on a
// stream of its own, over one connection after another. A [Hub] is what the
// links of a node share. Package peer decides who may open what.
package circuit

// A CallType says what a fragment is. The library stamps it on receipt.
type CallType uint8

// The call types.
const (
	CallData  CallType = iota // an ordinary fragment
	CallFirst                 // the fragment that came with the opening
	CallError                 // a fragment that carries Err
)

// The most that a fragment's texts may be, in bytes; [limit.Circuit] has the
// bounds of a node. A fragment over a limit of either side is a
// [transport.LimitError] at its sender, and breaks the protocol if it arrives.
const (
	maxSubject   = 1024      // FragSubject
	maxErr       = 4096      // Err
	maxArgs      = 64        // pairs in Args
	maxArgKey    = 128       // each key
	maxArgsTotal = 64 * 1024 // all keys and values together
)

// A Fragment is one message on a circuit. The sender fills in the second
// group; what it writes into the first is ignored, because the receiver
// stamps it from the authenticated connection.
//
// A sent Fragment may be changed and used again as soon as the call that sent
// it has returned. A received Fragment belongs to whoever received it, who may
// keep it; who does not calls [Fragment.Release], which spares the collector
// the work. Small fragments that came together share memory: one that is kept
// keeps up to 5 KiB alive.
type Fragment struct {
	FromPeerID, ToPeerID string // the running peers, as IDs
	CircuitID            string
	Serial               int64 // 1, 2, 3 … in each direction of the circuit
	Typ                  CallType
	ServiceName          string // the service the sending peer runs

	FragOp      int               // the user's operation
	FragSubject string            // at most 1,024 bytes
	FragPart    int64             // the user's part number
	Args        map[string]string // at most 64 pairs, keys of 128 bytes, 64 KiB in all
	Payload     []byte            // at most limit.Circuit.Payload bytes
	Err         string            // not empty: delivered on Errors; at most 4,096 bytes

	// What Release gives back; nil where there is nothing.
	block  *block  // f is in it, and Payload may be
	memory *memory // f is in it, and so is Payload
}

// Release gives the memory of a received fragment back to its node, to be used
// for later ones. Nothing of f may be used after that, Payload least of all:
// others are written into it. It is to be called on what was received, and not
// on a copy as well. Calling it is never necessary.
func (f *Fragment) Release() {
	block, memory := f.block, f.memory
	if block == nil && memory == nil {
		return
	}
	*f = Fragment{}
	if memory != nil {
		memory.free()
	}
	if block != nil {
		block.drop(1)
	}
}
