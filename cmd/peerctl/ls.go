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
	return &cobra.Command{
		Use:   "ls ADDR",
		Short: "List the peers and circuits on a node",
		Long: `List the peers that run on the node at ADDR, its connections, and its circuits
with their counters and ages. It needs an entry in authorized_peers there
without services, or with "ckt.node" among them.`,
		Example: "  peerctl ls build7:4242",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.ls(cmd.Context(), args[0])
		},
	}
}

func (a *app) ls(ctx context.Context, addr string) error {
	a.service, a.deed = nodeService, "to see what runs there"
	s, err := a.connect(ctx, addr)
	if err != nil {
		return err
	}
	defer s.close()
	ctx, cancel := context.WithTimeout(ctx, a.timeout)
	defer cancel()
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
	Node   string  `json:"node"`
	Addr   string  `json:"addr"`
	Age    float64 `json:"age_s"`
	Dialed bool    `json:"dialed"`
}

type lsCircuit struct {
	CircuitID     string  `json:"circuit"`
	Service       string  `json:"service"`
	PeerID        string  `json:"peer"`
	RemoteService string  `json:"remote_service"`
	RemotePeerID  string  `json:"remote_peer"`
	RemoteNode    string  `json:"remote_node"`
	Age           float64 `json:"age_s"`
	FragmentsSent int64   `json:"fragments_sent"`
	FragmentsRcv  int64   `json:"fragments_received"`
	BytesSent     int64   `json:"bytes_sent"`
	BytesRcv      int64   `json:"bytes_received"`
	Unacked       int     `json:"unacked"`
	Unread        int     `json:"unread"`
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
		r.Links = append(r.Links, lsLink{Node: l.Node.String(), Addr: l.Addr, Age: age(l.Since), Dialed: l.Dialed})
	}
	for _, c := range ls.Circuits {
		r.Circuits = append(r.Circuits, lsCircuit{
			CircuitID: c.CircuitID, Service: c.Service, PeerID: c.LocalPeerID,
			RemoteService: c.RemoteService, RemotePeerID: c.RemotePeerID, RemoteNode: c.RemoteNode.String(),
			Age:           age(c.Opened),
			FragmentsSent: c.FragmentsSent, FragmentsRcv: c.FragmentsRcv,
			BytesSent: c.BytesSent, BytesRcv: c.BytesRcv, Unacked: c.Unacked, Unread: c.Unread,
		})
	}
	return r
}

func (r lsResult) text(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "node %s at %s, up %s\n\n", r.Node, plain(r.Addr), short(r.Age))
	fmt.Fprintln(t, "PEER\tSERVICE\tAGE\tCIRCUITS\tSTARTED BY")
	for _, p := range r.Peers {
		fmt.Fprintf(t, "%s\t%s\t%s\t%d\t%s\n", plain(p.PeerID), plain(p.Service), short(p.Age), p.Circuits, cmp.Or(p.StartedBy, "itself"))
	}
	fmt.Fprintln(t, "\nCONNECTED NODE\tADDRESS\tAGE\tDIALLED BY")
	for _, l := range r.Links {
		dialler := "the other"
		if l.Dialed {
			dialler = "this one"
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", l.Node, plain(l.Addr), short(l.Age), dialler)
	}
	fmt.Fprintln(t, "\nCIRCUIT\tSERVICE\tPEER\tWITH\tON NODE\tAGE\tSENT\tRECEIVED\tUNACKED\tUNREAD")
	for _, c := range r.Circuits {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%d (%s)\t%d (%s)\t%d\t%d\n",
			plain(c.CircuitID), plain(c.Service), plain(c.PeerID), plain(c.RemoteService), c.RemoteNode, short(c.Age),
			c.FragmentsSent, size(c.BytesSent), c.FragmentsRcv, size(c.BytesRcv), c.Unacked, c.Unread)
	}
	return t.Flush()
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
