package circuit

import (
	"context"

	"ckt.local/transport"
)

// A lane is the circuits of one kind that wait for a stream on a carrier. Those
// that are to go on have one of their own: an acceptor may take minutes for each
// opening, and nobody who has a circuit waits for that.
type lane struct {
	turns   chan struct{} // has a token for each stream of this side that waits for its answer
	queue   []*Circuit
	running bool // attachQueued runs
}

const (
	laneNew    = iota // circuits that the other side has not accepted yet
	laneResume        // those that it has
	lanes
)

// lane is which one c waits in.
func (c *Circuit) lane() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.s.confirmed {
		return laneResume
	}
	return laneNew
}

// attachSoon gives c a stream on the carrier, once there is a place for one.
func (car *carrier) attachSoon(c *Circuit) {
	i := c.lane()
	car.mu.Lock()
	defer car.mu.Unlock()
	if car.over {
		return // the next carrier takes c up
	}
	l := &car.lanes[i]
	l.queue = append(l.queue, c)
	if !l.running {
		l.running = true
		car.link.wg.Go(func() { car.attachQueued(l) }) // acceptLoop is counted as long as the carrier is not over
	}
}

// attachQueued runs while there are circuits to attach in a lane.
func (car *carrier) attachQueued(l *lane) {
	for {
		car.mu.Lock()
		if len(l.queue) == 0 {
			l.queue, l.running = nil, false
			car.mu.Unlock()
			return
		}
		c := l.queue[0]
		l.queue = l.queue[1:]
		car.mu.Unlock()
		if !c.wants(car) {
			continue // a retry from the time before, and the stream would be one too many
		}
		s, err := car.openStream(car.ctx, l.turns)
		if err != nil {
			return // the carrier is lost, and the next one takes them up
		}
		c.attach(car, s, l.turns)
	}
}

// wants reports whether c has to be attached to the carrier.
func (c *Circuit) wants(car *carrier) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.s.wants(car)
}

func (s *state) wants(car *carrier) bool {
	// An earlier connection may not have come to take off c yet.
	return !s.lost && !s.released && (s.at == nil || s.moving || s.at.car.seq < car.seq)
}

// openStream returns a stream for one attachment, when it is its turn: with the
// stream the caller has one of turns.
func (car *carrier) openStream(ctx context.Context, turns chan struct{}) (transport.Stream, error) {
	select {
	case turns <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-car.ctx.Done():
		return nil, context.Cause(car.ctx)
	}
	s, err := car.conn.OpenStream(ctx)
	if err != nil {
		<-turns
	}
	return s, err
}
