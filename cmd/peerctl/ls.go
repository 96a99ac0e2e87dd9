package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"ckt.local/peer"
)

func lsCmd(a *app) *cobra.Command {
	var limits bool
	cmd := &cobra.Command{
		Use:   "ls ADDR",
		Short: "List the peers and circuits on a node",
		Long: `List the peers that run on the node at ADDR, its connections, and its circuits
with their counters and ages. It needs an entry in authorized_peers there
without services, or with "ckt.node" among them.

A connection that is lost stays in the list while circuits wait for another:
they and it are "detached". A circuit that has "ended" is listed while it has
unread fragments. ATTACHMENTS counts the connections that have carried a
circuit, REPLAYED the fragments that it has sent once more on a later one, and
DUPLICATES those that have come twice and were dropped.

With --limits it is what other nodes use of that one, and how much that may be:
of all of them, and of each. BUSIEST NODE is the one that uses most, REFUSED how
often somebody was at a bound since the node runs. A rate has bounds for one
node only.

The tables have the beginnings of some IDs; --json has all of them.`,
		Example: "  peerctl ls build7:4242\n  peerctl ls build7:4242 --limits",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.ls(cmd.Context(), args[0], limits)
		},
	}
	cmd.Flags().BoolVar(&limits, "limits", false, "show what is used against its bound instead")
	return cmd
}

func (a *app) ls(ctx context.Context, addr string, limits bool) error {
	a.service, a.deed = nodeService, "to see what runs there"
	s, err := a.connect(ctx, addr)
	if err != nil {
		return err
	}
	defer s.close()
	ctx, cancel := context.WithTimeout(ctx, a.timeout)
	defer cancel()
	if limits {
		return a.lsLimits(ctx, s, addr)
	}
	listing, err := s.node.PeerAPI.List(ctx, addr)
	if err != nil {
		return err
	}
	return a.print(newLsResult(listing))
}

// An lsResult is a listing with ages instead of times: the clocks of two
// machines need not agree.
type lsResult struct {
	Node     string      `json:"node"`
	Addr     string      `json:"addr"`
	Age      float64     `json:"age_s"`
	Peers    []lsPeer    `json:"peers"`
	Links    []lsLink    `json:"links"`
	Circuits []lsCircuit `json:"circuits"`
}

type lsPeer struct {
	Service   string  `json:"service"`
	PeerID    string  `json:"peer"`
	Age       float64 `json:"age_s"`
	Circuits  int     `json:"circuits"`
	StartedBy string  `json:"started_by"` // "": the node itself
}

type lsLink struct {
	Node     string  `json:"node"`
	Addr     string  `json:"addr"`
	Age      float64 `json:"age_s"`
	Dialed   bool    `json:"dialed"`
	State    string  `json:"state"`
	For      float64 `json:"state_s,omitempty"` // how long it has been so; 0: not known
	Circuits int     `json:"circuits"`
}

type lsCircuit struct {
	CircuitID     string  `json:"circuit"`
	Service       string  `json:"service"`
	PeerID        string  `json:"peer"`
	RemoteService string  `json:"remote_service"`
	RemotePeerID  string  `json:"remote_peer"`
	RemoteNode    string  `json:"remote_node"`
	Age           float64 `json:"age_s"`
	State         string  `json:"state"`
	For           float64 `json:"state_s"`
	Attachments   int     `json:"attachments"`
	FragmentsSent int64   `json:"fragments_sent"`
	FragmentsRcv  int64   `json:"fragments_received"`
	BytesSent     int64   `json:"bytes_sent"`
	BytesRcv      int64   `json:"bytes_received"`
	Unacked       int     `json:"unacked"`
	Unread        int     `json:"unread"`
	Replayed      int64   `json:"replayed"`
	Duplicates    int64   `json:"duplicates"`
}

// The states of connections and circuits, for people and programs.
const (
	stateOpen     = "open"
	stateDetached = "detached" // waits for another connection
	stateEnded    = "ended"    // has unread fragments
)

func stateOf(attached, ended bool) string {
	switch {
	case attached:
		return stateOpen
	case ended:
		return stateEnded
	}
	return stateDetached
}

func newLsResult(ls peer.Listing) lsResult {
	age := func(since time.Time) float64 { return ls.At.Sub(since).Seconds() }
	r := lsResult{
		Node: ls.Node.String(), Addr: ls.Addr, Age: age(ls.Started),
		Peers: []lsPeer{}, Links: []lsLink{}, Circuits: []lsCircuit{},
	}
	for _, p := range ls.Peers {
		row := lsPeer{Service: p.Service, PeerID: p.PeerID, Age: age(p.Started), Circuits: p.Circuits}
		if !p.StartedBy.IsZero() {
			row.StartedBy = p.StartedBy.String()
		}
		r.Peers = append(r.Peers, row)
	}
	for _, l := range ls.Links {
		r.Links = append(r.Links, newLsLink(l, age))
	}
	for _, c := range ls.Circuits {
		r.Circuits = append(r.Circuits, newLsCircuit(c, age))
	}
	return r
}

func newLsLink(l peer.LinkInfo, age func(time.Time) float64) lsLink {
	row := lsLink{
		Node: l.Node.String(), Addr: l.Addr, Age: age(l.Since), Dialed: l.Dialed,
		State: stateOf(l.Attached, false), Circuits: l.Circuits,
	}
	switch {
	case l.Attached:
		row.For = row.Age
	case !l.Lost.IsZero():
		row.For = age(l.Lost)
	}
	return row
}

func newLsCircuit(c peer.CircuitInfo, age func(time.Time) float64) lsCircuit {
	return lsCircuit{
		CircuitID: c.CircuitID, Service: c.Service, PeerID: c.LocalPeerID,
		RemoteService: c.RemoteService, RemotePeerID: c.RemotePeerID, RemoteNode: c.RemoteNode.String(),
		Age: age(c.Opened), State: stateOf(c.Attached, c.Ended), For: age(c.Since), Attachments: c.Attachments,
		FragmentsSent: c.FragmentsSent, FragmentsRcv: c.FragmentsRcv,
		BytesSent: c.BytesSent, BytesRcv: c.BytesRcv, Unacked: c.Unacked, Unread: c.Unread,
		Replayed: c.Replayed, Duplicates: c.Duplicates,
	}
}

// text leaves out the tables that have no rows.
func (r lsResult) text(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "node %s at %s, up %s\n", r.Node, plain(r.Addr), short(r.Age))
	for i, p := range r.Peers {
		header(t, i, "PEER\tSERVICE\tAGE\tCIRCUITS\tSTARTED BY")
		fmt.Fprintf(t, "%s\t%s\t%s\t%d\t%s\n", plain(p.PeerID), plain(p.Service), short(p.Age), p.Circuits, cmp.Or(p.StartedBy, "itself"))
	}
	for i, l := range r.Links {
		header(t, i, "CONNECTED NODE\tADDRESS\tAGE\tDIALLED BY\tSTATE\tCIRCUITS")
		dialler := "the other"
		if l.Dialed {
			dialler = "this one"
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%d\n", l.Node, plain(l.Addr), short(l.Age), dialler, since(l.State, l.For), l.Circuits)
	}
	for i, c := range r.Circuits {
		header(t, i, "CIRCUIT\tSERVICE\tPEER\tWITH\tON NODE\tAGE\tSTATE")
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", brief(c.CircuitID), plain(c.Service), brief(c.PeerID),
			plain(c.RemoteService), brief(c.RemoteNode), short(c.Age), since(c.State, c.For))
	}
	for i, c := range r.Circuits {
		header(t, i, "CIRCUIT\tSENT\tRECEIVED\tUNACKED\tUNREAD\tATTACHMENTS\tREPLAYED\tDUPLICATES")
		fmt.Fprintf(t, "%s\t%d (%s)\t%d (%s)\t%d\t%d\t%d\t%d\t%d\n", brief(c.CircuitID), c.FragmentsSent, size(c.BytesSent),
			c.FragmentsRcv, size(c.BytesRcv), c.Unacked, c.Unread, c.Attachments, c.Replayed, c.Duplicates)
	}
	return t.Flush()
}

// header precedes the first row of a table.
func header(w io.Writer, row int, columns string) {
	if row == 0 {
		fmt.Fprintf(w, "\n%s\n", columns)
	}
}

// brief is the beginning of an ID, which is enough to find its row in the
// other tables.
func brief(id string) string {
	const enough = 8
	return plain(id[:min(len(id), enough)])
}

// since says how long what is not as it should be has been so.
func since(state string, seconds float64) string {
	if state == stateOpen || seconds == 0 {
		return state
	}
	return state + " " + short(seconds)
}

// short prints an age in its two largest units: 12s, 3m04s, 5h07m, 12d3h.
func short(seconds float64) string {
	const minute, hour, day = 60, 60 * 60, 24 * 60 * 60
	s := int64(max(seconds, 0))
	switch {
	case s < minute:
		return fmt.Sprintf("%ds", s)
	case s < hour:
		return fmt.Sprintf("%dm%02ds", s/minute, s%minute)
	case s < day:
		return fmt.Sprintf("%dh%02dm", s/hour, s%hour/minute)
	}
	return fmt.Sprintf("%dd%dh", s/day, s%day/hour)
}
