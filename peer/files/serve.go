package files

import (
	"context"
	"errors"

	"ckt.local/circuit"
)

// A reception is one circuit of a receiver. The goroutine of the circuit owns
// it.
type reception struct {
	*receiver
	c     *circuit.Circuit
	in    incoming
	place *place // nil: none yet
	told  bool   // that there is none yet
}

// receive owns c until it ends, and with it what was half received.
func (r *receiver) receive(ctx context.Context, c *circuit.Circuit) {
	defer c.Close()
	rc := reception{receiver: r, c: c, in: incoming{root: r.root, temps: r.temps, maxSize: r.maxSize}}
	defer rc.give()
	mayKeep, cut := context.WithCancelCause(ctx)
	defer cut(nil)
	// Who sends nothing must not keep the files of others waiting.
	idle := &idle{c: c}
	idle.start()
	defer idle.stop()
	for f, err := range c.Fragments(mayKeep) {
		idle.stop()
		if f == nil && errors.Is(err, errSlow) {
			rc.refuse(ctx, err)
			return
		}
		if f == nil || err != nil {
			return // the sender is gone, or has given up
		}
		if rc.place == nil && !rc.takePlace(cut) {
			return
		}
		done, err := rc.take(f)
		switch {
		case err != nil:
			rc.refuse(ctx, err)
			return
		case done:
			rc.give()
			_ = c.Send(ctx, rc.in.receipt())
			return
		case f.FragOp == opPut && (rc.told || rc.in.meta.size > maxAhead):
			_ = c.Send(mayKeep, &circuit.Fragment{FragOp: opGo}) // if not, the next fragment tells
		}
		idle.start()
	}
}

// takePlace waits for a place, which cut may take away.
func (rc *reception) takePlace(cut context.CancelCauseFunc) (ok bool) {
	rc.place, ok = rc.places.take(rc.c.Context, rc.c.RemoteAccount(), func() {
		rc.told = true
		// Who does not read what it is told need not be told more.
		_ = rc.c.SendOneWay(&circuit.Fragment{FragOp: opWait})
	})
	if !ok {
		return false
	}
	rc.places.hold(rc.place, holder{
		cut:      func() { cut(errSlow) },
		attached: func() bool { return rc.c.State().Attached },
	})
	return true
}

func (rc *reception) take(f *circuit.Fragment) (done bool, err error) {
	rc.place.busy.Store(true)
	defer rc.place.busy.Store(false)
	if done, err = rc.in.take(f); err != nil {
		return false, err
	}
	rc.places.count(rc.place, len(f.Payload), done)
	return done, nil
}

// give lets others have what the file has had of places and disk.
func (rc *reception) give() {
	rc.in.discard()
	if rc.place != nil {
		rc.place.give()
	}
}

// refuse tells the sender why its file is not received. The answer may wait
// for it to read; place and room on the disk are wanted at once.
func (rc *reception) refuse(ctx context.Context, err error) {
	path := rc.in.meta.path
	rc.give()
	rc.log.Warn("file not received", "node", rc.c.RemoteNodeID(), "path", path, "err", err)
	// A sender that is gone needs no answer.
	_ = rc.c.Send(ctx, failure(path, err))
}
