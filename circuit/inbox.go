package circuit

// An inbox holds what has arrived on a circuit and was not read yet. Its size
// is bounded by the credit that its circuit gives. The circuit's mutex guards
// it.
type inbox struct {
	reads, errs queue
}

type item struct {
	f    *Fragment
	cost int
}

func (b *inbox) add(it item) {
	if it.f.Err != "" {
		b.errs.push(it)
	} else {
		b.reads.push(it)
	}
}

func (b *inbox) len() int { return b.reads.len() + b.errs.len() }

// next takes the older of the two queues' first items.
func (b *inbox) next() (item, bool) {
	switch {
	case b.len() == 0:
		return item{}, false
	case b.errs.len() == 0:
		return b.reads.pop(), true
	case b.reads.len() == 0 || b.errs.head().f.Serial < b.reads.head().f.Serial:
		return b.errs.pop(), true
	}
	return b.reads.pop(), true
}

func (b *inbox) clear() { b.reads, b.errs = queue{}, queue{} }

// A queue is a first-in first-out list that holds no memory while empty for
// long.
type queue struct {
	items []item
	at    int
}

func (q *queue) len() int { return len(q.items) - q.at }

func (q *queue) head() item { return q.items[q.at] }

func (q *queue) push(it item) {
	if q.at > 0 && len(q.items) == cap(q.items) && q.at >= len(q.items)/2 {
		n := copy(q.items, q.items[q.at:])
		clear(q.items[n:])
		q.items, q.at = q.items[:n], 0
	}
	q.items = append(q.items, it)
}

func (q *queue) pop() item {
	it := q.items[q.at]
	q.items[q.at] = item{}
	q.at++
	if q.at == len(q.items) {
		q.at, q.items = 0, q.items[:0]
		if cap(q.items) > 64 {
			q.items = nil
		}
	}
	return it
}
