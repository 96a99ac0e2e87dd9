package main

import (
	"fmt"
	"strings"

	"ckt.local/transport"
)

// ofOne ends the names of limits that bound each key for itself.
const ofOne = " of one node"

// A raiser is where a limit of another node can be raised.
type raiser struct {
	field string // of serve --limits; "": not known
	flag  string // of authorize, if a line of authorized_peers may bound it, too
}

// raiserOf knows limits by the names that package limit gives them, which are
// the same whether a line or the node sets them.
func raiserOf(what string) raiser {
	return map[string]raiser{
		"connections":                    {field: "transport.conns"},
		"connections" + ofOne:            {field: "transport.conns_per_node"},
		"connections per second" + ofOne: {field: "transport.conns_per_second"},
		"circuits":                       {field: "circuit.circuits"},
		"circuits" + ofOne:               {field: "circuit.circuits_per_node", flag: "--max-circuits"},
		"openings per second" + ofOne:    {field: "circuit.opens_per_second", flag: "--rate"},
		"starts per second" + ofOne:      {field: "peer.starts_per_second", flag: "--rate"},
		"requests per second" + ofOne:    {field: "circuit.opens_per_second", flag: "--rate"},
		"started peers":                  {field: "peer.started"},
		"started peers" + ofOne:          {field: "peer.started_per_node"},
		"service name bytes":             {field: "peer.name"},
	}[what]
}

// atLimit is what can be done about a limit of the other node, here and there.
func (a *app) atLimit(e *transport.LimitError) string {
	b := raiserOf(e.What)
	raise := "or have it raised on the other machine: "
	if b.flag != "" {
		raise += fmt.Sprintf("peerctl authorize %v --like %v %s N --replace, if its line there says %s; else ", a.self, a.self, b.flag, strings.TrimPrefix(b.flag, "--"))
	}
	if b.field != "" {
		raise += b.field + " in "
	}
	return a.useLess(e) + "; " + raise + "the FILE of peerctl serve --limits"
}

// useLess is what can be done on this side.
func (a *app) useLess(e *transport.LimitError) string {
	whose := "it is for all nodes together"
	if strings.HasSuffix(e.What, ofOne) {
		whose = "it is for this node's key"
	}
	switch {
	case e.Size != 0:
		return "give less at a time"
	case strings.HasPrefix(e.What, "started peers"):
		return fmt.Sprintf("peerctl ls %s shows what runs there; peerctl stop-remote-peer PEERURL ends what is not needed; %s", a.addr, whose)
	case strings.Contains(e.What, "per second"):
		return whose + ": wait a second, and ask less often"
	case e.What == "circuits"+ofOne:
		return fmt.Sprintf("%s: end what has circuits open there (peerctl ls %s shows them)", whose, a.addr)
	}
	return fmt.Sprintf("%s: try again later (peerctl ls %s --limits shows who uses how much)", whose, a.addr)
}
