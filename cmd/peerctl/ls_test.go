package main

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"ckt.local/circuit"
	"ckt.local/peer"
	"ckt.local/transport/identity"
)

// sampleListing is that of a node with a circuit in each state, and two
// connections, of which the second is lost.
func sampleListing() peer.Listing {
	now := time.Unix(1_700_000_000, 0)
	ago := func(d time.Duration) time.Time { return now.Add(-d) }
	node, other := identity.NodeID{1}, identity.NodeID{2}
	id := func(b byte) string { return circuit.ID{b, b, b, b, b, b}.String() }
	ls := peer.Listing{
		Node: node, Addr: "192.0.2.1:4242", Started: ago(26 * time.Hour), At: now,
		Peers: []peer.PeerInfo{{Service: "echo", PeerID: id(9), Started: ago(5 * time.Hour), Circuits: 3}},
		Links: []peer.LinkInfo{
			{Node: other, Addr: "198.51.100.17:43210", Since: ago(3 * time.Minute), Attached: true, Circuits: 2},
			{Node: node, Addr: "203.0.113.200:4242", Since: ago(25 * time.Hour), Dialed: true, Lost: ago(12 * time.Second), Circuits: 1},
		},
	}
	c := peer.CircuitInfo{
		CircuitID: id(1), Service: "echo", LocalPeerID: id(9), RemoteService: "peerctl", RemotePeerID: id(8), RemoteNode: other,
		Attached: true, Since: ago(time.Minute),
		Stats: circuit.Stats{
			Opened: ago(3 * time.Minute), FragmentsSent: 1234567, BytesSent: 123 << 30, FragmentsRcv: 2, BytesRcv: 3,
			Unacked: 1023, Unread: 7, Duplicates: 4, Replayed: 98765, Attachments: 21,
		},
	}
	ls.Circuits = append(ls.Circuits, c)
	c.CircuitID, c.RemoteNode, c.Attached, c.Since = id(2), node, false, ago(12*time.Second)
	ls.Circuits = append(ls.Circuits, c)
	c.CircuitID, c.Ended, c.Since = id(3), true, ago(61*time.Second)
	ls.Circuits = append(ls.Circuits, c)
	return ls
}

// TestListingAsText shows what people get: every table in its columns, and
// none much wider than a terminal, but for the full node IDs.
func TestListingAsText(t *testing.T) {
	var b strings.Builder
	if err := newLsResult(sampleListing()).text(&b); err != nil {
		t.Fatal(err)
	}
	const want = `node yryyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy at 192.0.2.1:4242, up 1d2h

PEER                        SERVICE  AGE    CIRCUITS  STARTED BY
brro1nejbryyyyyyyyyyyyyyyy  echo     5h00m  3         itself

CONNECTED NODE                                        ADDRESS              AGE    DIALLED BY  STATE         CIRCUITS
yeyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy  198.51.100.17:43210  3m00s  the other   open          2
yryyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy  203.0.113.200:4242   1d1h   this one    detached 12s  1

CIRCUIT   SERVICE  PEER      WITH     ON NODE   AGE    STATE
yryonyeb  echo     brro1nej  peerctl  yeyyyyyy  3m00s  open
yebyryon  echo     brro1nej  peerctl  yryyyyyy  3m00s  detached 12s
ycbogyad  echo     brro1nej  peerctl  yryyyyyy  3m00s  ended 1m01s

CIRCUIT   SENT                 RECEIVED     UNACKED  UNREAD  ATTACHMENTS  REPLAYED  DUPLICATES
yryonyeb  1234567 (123.0 GiB)  2 (3 bytes)  1023     7       21           98765     4
yebyryon  1234567 (123.0 GiB)  2 (3 bytes)  1023     7       21           98765     4
ycbogyad  1234567 (123.0 GiB)  2 (3 bytes)  1023     7       21           98765     4
`
	if b.String() != want {
		t.Errorf("got\n%s\nwant\n%s", b.String(), want)
	}
	_, circuits, _ := strings.Cut(b.String(), "\nCIRCUIT")
	for line := range strings.Lines(circuits) {
		if len(line) > 100 {
			t.Errorf("%d columns: %s", len(line), line)
		}
	}
}

func TestListingAsJSON(t *testing.T) {
	b, err := json.Marshal(newLsResult(sampleListing()))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`"dialed":false,"state":"open","state_s":180,"circuits":2}`,
		`"dialed":true,"state":"detached","state_s":12,"circuits":1}`,
		`"age_s":180,"state":"open","state_s":60,"attachments":21,"fragments_sent":1234567,`,
		`"state":"detached","state_s":12,"attachments":21,`,
		`"state":"ended","state_s":61,`,
		`"unacked":1023,"unread":7,"replayed":98765,"duplicates":4}`,
	} {
		if !strings.Contains(string(b), want) {
			t.Errorf("%s is not in %s", want, b)
		}
	}
}
