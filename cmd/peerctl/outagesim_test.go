package main

import (
	"context"
	"errors"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"ckt.local/circuit"
	"ckt.local/peer"
	"ckt.local/peer/echo"
	"ckt.local/peer/peertest"
	"ckt.local/transport"
)

// TestOutagesAreToldOnce follows several circuits through outages in simulated
// time.
func TestOutagesAreToldOnce(t *testing.T) {
	a, printed := onPaper(t)
	a.linger, a.host = 30*time.Second, "10.0.0.2:4242"
	told := 0
	wantNews := func(want ...string) {
		t.Helper()
		synctest.Wait()
		lines := strings.SplitAfter(printed(), "\n")
		news := strings.Join(lines[told:], "")
		told = len(lines) - 1
		if !regexp.MustCompile(`^` + strings.Join(want, "\n") + "\n?$").MatchString(news) {
			t.Errorf("got %q, want %q", news, want)
		}
	}
	synctest.Test(t, func(t *testing.T) {
		sim := peertest.SimConfig{Circuit: circuit.Config{Linger: a.linger}}.NewSim(t, 1)
		setup := func(n *peer.Node) {
			if err := n.PeerAPI.RegisterPeerServiceFunc(echo.Name, echo.Serve); err != nil {
				t.Error(err)
			}
		}
		here, there := sim.NewHost(setup), sim.NewHost(setup)
		me := here.StartPeer(echo.Name)
		out := a.watchOutages(t.Context(), nil)
		var circuits []*circuit.Circuit
		for range 3 {
			c, _, err := me.NewCircuitToPeerURL(there.URL(echo.Name), nil, 0)
			if err != nil {
				t.Fatal(err)
			}
			out.follow(c)
			circuits = append(circuits, c)
		}
		time.Sleep(time.Minute)
		wantNews()

		for range 2 {
			sim.Partition(here, there)
			for _, c := range circuits {
				if err := c.Send(t.Context(), &circuit.Fragment{}); err != nil {
					t.Fatal(err)
				}
			}
			time.Sleep(20 * time.Second)
			wantNews(`connection to 10\.0\.0\.2:4242 lost \(nothing acknowledged for 5[0-9.]*s\): resuming, giving up in 29s at the latest`)
			sim.Rejoin(here, there)
			time.Sleep(5 * time.Second)
			wantNews(`resumed after 1\ds, 3 fragments sent again`)
		}

		sim.Partition(here, there)
		for _, c := range circuits {
			<-c.Context.Done()
			if err := context.Cause(c.Context); !errors.Is(err, circuit.ErrPeerLost) {
				t.Error(err)
			}
		}
		wantNews(`connection to .* at the latest`)
		out.close()
		wantNews()
	})
}

// TestShortOutagesAreNotTold: circuits that move from one connection to the
// next are off both for a moment.
func TestShortOutagesAreNotTold(t *testing.T) {
	a, printed := onPaper(t)
	a.linger = time.Minute
	synctest.Test(t, func(t *testing.T) {
		out := a.watchOutages(t.Context(), nil)
		for range 3 {
			out.update(func(now *outage) {
				now.begin(transport.ErrLost, time.Now())
				now.detached++
			})
			time.Sleep(unnoticed * 3 / 4)
			out.update(func(now *outage) { now.detached-- })
			out.attached(time.Now())
			time.Sleep(unnoticed / 2)
		}
		out.close()
	})
	if got := printed(); got != "" {
		t.Errorf("got %q", got)
	}
}

// TestOpeningsThatWaitAreAnOutage: with no circuit open, an opening that is
// tried again says that the connection is lost, and its success that it is back.
func TestOpeningsThatWaitAreAnOutage(t *testing.T) {
	a, printed := onPaper(t)
	a.linger, a.host = time.Minute, "host:1"
	synctest.Test(t, func(t *testing.T) {
		out := a.watchOutages(t.Context(), nil)
		for range 3 {
			out.waits(transport.ErrUnreachable)
			time.Sleep(10 * time.Second)
		}
		out.attached(time.Now())
		out.close()
	})
	const want = "connection to host:1 lost (transport: no answer): resuming, giving up in 59s at the latest\n" +
		"resumed after 30s, 0 fragments sent again\n"
	if got := printed(); got != want {
		t.Errorf("got %q", got)
	}
}
