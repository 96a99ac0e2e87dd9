package circuit

import (
	"context"
	"sync"
	"time"
)

// An openingContext is the context of one opening by the other side: it ends
// with the carrier, or the stream, or when the time is over. Most openings are
// decided about without a wait, and a timer, and what a stream's context keeps
// for as long as the circuit lives to tell somebody of its end, would be a good
// part of what they cost. So it begins to watch when somebody asks for Done.
type openingContext struct {
	carrier, stream context.Context
	deadline        time.Time

	mu    sync.Mutex // never held across a wait
	real  context.Context
	close func()
}

var _ context.Context = (*openingContext)(nil)

// watching returns the context that watches, or makes it.
func (o *openingContext) watching() context.Context {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.real == nil {
		ctx, cancel := context.WithDeadline(o.carrier, o.deadline)
		stop := context.AfterFunc(o.stream, cancel)
		o.real, o.close = ctx, func() { stop(); cancel() }
	}
	return o.real
}

// end lets go of what watching has made.
func (o *openingContext) end() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.close != nil {
		o.close()
	}
}

func (o *openingContext) Deadline() (time.Time, bool) { return o.deadline, true }

func (o *openingContext) Done() <-chan struct{} { return o.watching().Done() }

func (o *openingContext) Value(key any) any { return o.watching().Value(key) }

// Err looks without watching, unless there is something to see: Done has to be
// closed then.
func (o *openingContext) Err() error {
	o.mu.Lock()
	real := o.real
	o.mu.Unlock()
	if real == nil {
		if o.carrier.Err() == nil && o.stream.Err() == nil && time.Now().Before(o.deadline) {
			return nil
		}
		real = o.watching()
		<-real.Done() // at once: what it watches has ended
	}
	return real.Err()
}
