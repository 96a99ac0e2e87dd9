//go:build unix

package files_test

import (
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"ckt.local/peer"
	"ckt.local/peer/files"
	"ckt.local/peer/peertest"
	"ckt.local/transport"
	"ckt.local/transport/identity"
)

// pushAgainst pushes src to a node that lets in those openings that allowed
// says, numbered from 1 with the push's greeting.
func pushAgainst(t *testing.T, src string, allowed func(n int64) bool) (report files.Report, err error) {
	t.Helper()
	service, err := files.Service(files.Config{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		var asked atomic.Int64
		sim := peertest.SimConfig{Adjust: func(_ *peertest.SimHost, cfg *peer.Config) {
			cfg.Authorize = func(r peer.Request) error {
				if r.Action != peer.ActionOpen || allowed(asked.Add(1)) {
					return nil
				}
				return &identity.DeniedError{ID: r.Node, Err: &identity.QuotaError{What: "circuits of one node", Limit: 1}}
			}
		}}.NewSim(t, 1)
		setup := func(n *peer.Node) {
			for name, f := range map[string]peer.PeerServiceFunc{files.Name: service, "pusher": wait} {
				if err := n.PeerAPI.RegisterPeerServiceFunc(name, f); err != nil {
					t.Error(err)
				}
			}
		}
		from, to := sim.NewHost(setup), sim.NewHost(setup)
		report, err = files.Push(t.Context(), from.StartPeer("pusher"), to.URL(files.Name), src, files.PushOptions{StallTimeout: time.Second})
	})
	return report, err
}

func TestPushWaitsAtALimit(t *testing.T) {
	const count = 20
	r, err := pushAgainst(t, smallFiles(t, count), func(n int64) bool { return n%3 == 1 })
	if err != nil || r.Files != count || len(r.Failed) != 0 {
		t.Errorf("%+v, %v", r, err)
	}
}

func TestPushGivesUpAtALimitThatOthersKeep(t *testing.T) {
	const count, through = 20, 3
	r, err := pushAgainst(t, smallFiles(t, count), func(n int64) bool { return n <= 1+through })
	if err != nil || r.Files != through || len(r.Failed) != count-through {
		t.Fatalf("%+v, %v", r, err)
	}
	if e, ok := errors.AsType[*transport.LimitError](r.Failed[0].Err); !ok || !e.Remote {
		t.Error(r.Failed[0])
	}
	if r.Elapsed < 30*time.Second || r.Elapsed > 35*time.Second {
		t.Errorf("after %v", r.Elapsed)
	}
}
