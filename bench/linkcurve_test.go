package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"testing"
	"testing/synctest"
	"time"

	ckt "ckt.local"
	"ckt.local/peer/peertest"
	"ckt.local/transport/simnet"
)

// linkCurveFlag is where TestLinkCurve writes its points. Simulated time works
// in tests only, so the program cannot measure that itself.
const linkCurveFlag = "link-curve"

var linkCurveFile = flag.String(linkCurveFlag, "", "`file` that TestLinkCurve writes its points into; default: two quick ones, and no file")

// A linkPoint is what a simulated link does.
type linkPoint struct {
	curve string
	x     float64
	rtt   time.Duration
	loss  float64 // probability
}

const (
	linkBandwidth = 125_000_000 // 1 Gbit/s
	linkQueue     = 1 << 20
	lossRTT       = 20 * time.Millisecond
)

func linkPoints() []linkPoint {
	var out []linkPoint
	for _, ms := range []float64{0, 1, 5, 10, 20, 50, 100, 200} {
		out = append(out, linkPoint{curveDelay, ms, time.Duration(ms * float64(time.Millisecond)), 0})
	}
	for _, percent := range []float64{0, 0.01, 0.1, 0.5, 1, 2, 5} {
		out = append(out, linkPoint{curveLoss, percent, lossRTT, percent / 100})
	}
	return out
}

// How fast one circuit is on links of all kinds.
func TestLinkCurve(t *testing.T) {
	points := linkPoints()
	if *linkCurveFile == "" {
		points = []linkPoint{{curveDelay, 200, 200 * time.Millisecond, 0}, {curveLoss, 5, lossRTT, 0.05}}
	}
	var out []point
	for _, p := range points {
		t.Run(fmt.Sprintf("%s=%g", p.curve, p.x), func(t *testing.T) {
			mbps := simulate(t, p, *linkCurveFile == "")
			t.Logf("%.2f MB/s", mbps)
			out = append(out, point{Curve: p.curve, X: p.x, Metrics: metrics{metricMBps: mbps}})
		})
	}
	if *linkCurveFile == "" {
		return
	}
	text, err := json.MarshalIndent(out, "", "\t")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(*linkCurveFile, text, 0o644); err != nil {
		t.Fatal(err)
	}
}

// simulate fills one circuit until its windows have grown, and then measures.
func simulate(t *testing.T, p linkPoint, quick bool) (mbps float64) {
	grow, measured := time.Second+20*p.rtt, 2*time.Second+5*p.rtt
	if quick {
		grow, measured = p.rtt, 300*time.Millisecond
	}
	synctest.Test(t, func(t *testing.T) {
		link := simnet.Link{Latency: p.rtt / 2, Loss: p.loss, Bandwidth: linkBandwidth, Queue: linkQueue}
		sim := peertest.SimConfig{Link: link}.NewSim(t, 1)
		setup := func(n *ckt.Node) { n.PeerAPI.RegisterPeerServiceFunc(cktService, cktServe) }
		a, b := sim.NewHost(setup), sim.NewHost(setup)
		c, _, err := a.StartPeer(cktService).NewCircuitToPeerURL(b.URL(cktService), nil, time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		chs := channels{&cktChannel{c: c}}
		if _, err := sendAll(chs, bulkSize, grow); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		sent, err := sendAll(chs, bulkSize, measured)
		if err != nil {
			t.Fatal(err)
		}
		mbps = throughput(sent, time.Since(began))[metricMBps]
		c.Close()
		c.Flush(context.Background())
	})
	return mbps
}
