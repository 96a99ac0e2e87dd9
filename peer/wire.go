package peer

import (
	"iter"
	"time"

	"ckt.local/circuit"
	"ckt.local/transport/identity"
)

//go:generate go tool msgp -file wire.go -o wire_gen.go -io=false -tests=false -unexported

//msgp:tuple wireHead wirePage wirePeer wireLink wireCircuit wireLimits wireUse
//msgp:limit arrays:500 maps:0

// wireHead ends a listing. Times are nanoseconds since 1970 in UTC.
type wireHead struct {
	Addr    string
	Started int64
	At      int64
}

// wirePage holds some rows of a listing.
type wirePage struct {
	Peers    []wirePeer    `msg:",limit=500"`
	Links    []wireLink    `msg:",limit=500"`
	Circuits []wireCircuit `msg:",limit=500"`
}

type wirePeer struct {
	Service   string
	ID        [16]byte
	Started   int64
	StartedBy [32]byte // zeros: the node itself
	Circuits  uint32
}

type wireLink struct {
	Node     [32]byte
	Addr     string
	Since    int64
	Dialed   bool
	Attached bool
	Lost     int64 // 0: not known, or attached
	Circuits uint32
}

type wireCircuit struct {
	ID            [16]byte
	Service       string
	LocalPeer     [16]byte
	RemoteService string
	RemotePeer    [16]byte
	RemoteNode    [32]byte
	Opened        int64
	FragmentsSent int64
	FragmentsRcv  int64
	BytesSent     int64
	BytesRcv      int64
	Unacked       uint32
	Unread        uint32
	Attached      bool
	Ended         bool
	Since         int64
	Attachments   uint32
	Replayed      int64
	Duplicates    int64
}

// wireLimits is the list of a node's limits, and a wireUse a row of it.
type wireLimits struct {
	Rows []wireUse `msg:",limit=64"`
}

type wireUse struct {
	What    string
	Used    int64
	Limit   int64
	Top     [32]byte // zeros: nobody
	TopUsed int64
	PerNode int64
	Refused int64
}

func headOf(ls Listing) wireHead {
	return wireHead{Addr: ls.Addr, Started: ls.Started.UnixNano(), At: ls.At.UnixNano()}
}

func timeOf(ns int64) time.Time { return time.Unix(0, ns) }

// pages cuts the rows of a listing into pages of at most maxPageRows rows and
// about limit bytes, but at least one row each.
func pages(ls Listing, limit int) iter.Seq[*wirePage] {
	return func(yield func(*wirePage) bool) {
		page, rows, size := new(wirePage), 0, 16
		full := func(n int) bool {
			if rows == 0 || rows < maxPageRows && size+n <= limit {
				rows, size = rows+1, size+n
				return true
			}
			if !yield(page) {
				return false
			}
			page, rows, size = new(wirePage), 1, 16+n
			return true
		}
		for _, p := range ls.Peers {
			w := peerOut(p)
			if !full(w.Msgsize()) {
				return
			}
			page.Peers = append(page.Peers, w)
		}
		for _, l := range ls.Links {
			w := linkOut(l)
			if !full(w.Msgsize()) {
				return
			}
			page.Links = append(page.Links, w)
		}
		for _, c := range ls.Circuits {
			w := circuitOut(c)
			if !full(w.Msgsize()) {
				return
			}
			page.Circuits = append(page.Circuits, w)
		}
		if rows > 0 {
			yield(page)
		}
	}
}

// idOf returns an ID of this node's as it is on the wire.
func idOf(s string) circuit.ID {
	id, _ := circuit.ParseID(s) // "" and nothing else is the zero ID
	return id
}

func peerOut(p PeerInfo) wirePeer {
	return wirePeer{
		Service: p.Service, ID: idOf(p.PeerID), Started: p.Started.UnixNano(),
		StartedBy: p.StartedBy, Circuits: uint32(p.Circuits),
	}
}

func linkOut(l LinkInfo) wireLink {
	w := wireLink{
		Node: l.Node, Addr: l.Addr, Since: l.Since.UnixNano(), Dialed: l.Dialed,
		Attached: l.Attached, Circuits: uint32(l.Circuits),
	}
	if !l.Lost.IsZero() {
		w.Lost = l.Lost.UnixNano()
	}
	return w
}

func circuitOut(c CircuitInfo) wireCircuit {
	return wireCircuit{
		ID: idOf(c.CircuitID), Service: c.Service, LocalPeer: idOf(c.LocalPeerID),
		RemoteService: c.RemoteService, RemotePeer: idOf(c.RemotePeerID), RemoteNode: c.RemoteNode,
		Opened: c.Opened.UnixNano(), FragmentsSent: c.FragmentsSent, FragmentsRcv: c.FragmentsRcv,
		BytesSent: c.BytesSent, BytesRcv: c.BytesRcv, Unacked: uint32(c.Unacked), Unread: uint32(c.Unread),
		Attached: c.Attached, Ended: c.Ended, Since: c.Since.UnixNano(),
		Attachments: uint32(c.Attachments), Replayed: c.Replayed, Duplicates: c.Duplicates,
	}
}

// addTo adds the rows to a listing. What they say is foreign: names that no
// service can have, and addresses that are none, are errors, so that a listing
// can be printed as it is.
func (page *wirePage) addTo(ls *Listing) error {
	for _, p := range page.Peers {
		if err := identity.ValidServiceName(p.Service); err != nil {
			return err
		}
		ls.Peers = append(ls.Peers, PeerInfo{
			Service: p.Service, PeerID: circuit.ID(p.ID).String(), Started: timeOf(p.Started),
			StartedBy: p.StartedBy, Circuits: int(p.Circuits),
		})
	}
	for _, l := range page.Links {
		addr, err := parseAddr(l.Addr)
		if err != nil {
			return err
		}
		ls.Links = append(ls.Links, linkIn(l, addr))
	}
	for _, c := range page.Circuits {
		for _, name := range []string{c.Service, c.RemoteService} {
			if err := identity.ValidServiceName(name); err != nil {
				return err
			}
		}
		ls.Circuits = append(ls.Circuits, circuitIn(c))
	}
	return nil
}

func linkIn(l wireLink, addr string) LinkInfo {
	li := LinkInfo{
		Node: l.Node, Addr: addr, Since: timeOf(l.Since), Dialed: l.Dialed,
		Attached: l.Attached, Circuits: int(l.Circuits),
	}
	if l.Lost != 0 {
		li.Lost = timeOf(l.Lost)
	}
	return li
}

func circuitIn(c wireCircuit) CircuitInfo {
	return CircuitInfo{
		CircuitID: circuit.ID(c.ID).String(), Service: c.Service, LocalPeerID: circuit.ID(c.LocalPeer).String(),
		RemoteService: c.RemoteService, RemotePeerID: circuit.ID(c.RemotePeer).String(), RemoteNode: c.RemoteNode,
		Attached: c.Attached, Ended: c.Ended, Since: timeOf(c.Since),
		Stats: circuit.Stats{
			Opened:        timeOf(c.Opened),
			FragmentsSent: c.FragmentsSent, FragmentsRcv: c.FragmentsRcv,
			BytesSent: c.BytesSent, BytesRcv: c.BytesRcv, Unacked: int(c.Unacked), Unread: int(c.Unread),
			Attachments: int(c.Attachments), Replayed: c.Replayed, Duplicates: c.Duplicates,
		},
	}
}
