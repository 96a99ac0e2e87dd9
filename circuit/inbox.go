package circuit

// An inbox holds what has arrived on a circuit and was not read yet. Its size
// is bounded by the credit that its circuit gives. The circuit's mutex guards
// it.
type inbox struct {
	pool        *buffers
	reads, errs queue
}

type item struct {
	f    *Fragment
	cost int
}

func (b *inbox) add(it item) { b.of(it.f).push(b.pool, it) }

// of returns where f is, or belongs.
func (b *inbox) of(f *Fragment) *queue {
	if f.Err != "" {
		return &b.errs
	}
	return &b.reads
}

func (b *inbox) len() int { return b.reads.n + b.errs.n }

// next takes the older of the two queues' first items.
func (b *inbox) next() (item, bool) {
	if b.len() == 0 {
		return item{}, false
	}
	q := &b.reads
	if b.reads.n == 0 || b.errs.n > 0 && b.errs.head().Serial < b.reads.head().Serial {
		q = &b.errs
	}
	return q.pop(b.pool), true
}

func (b *inbox) clear() { b.reads, b.errs = queue{}, queue{} }

// A queue is a first-in first-out list that holds no memory while it is empty.
type queue struct {
	n           int
	first, last *batch
}

// head is the first fragment. There is one.
func (q *queue) head() *Fragment { return q.first.items[q.first.at].f }

func (q *queue) push(pool *buffers, it item) {
	switch {
	case q.last == nil:
		q.first = pool.batches.get()
		q.last = q.first
	case q.last.n == len(q.last.items):
		q.last.next = pool.batches.get()
		q.last = q.last.next
	}
	q.last.items[q.last.n] = it
	q.last.n++
	q.n++
}

func (q *queue) pop(pool *buffers) item {
	b := q.first
	it := b.items[b.at]
	b.items[b.at] = item{}
	b.at++
	q.n--
	if b.at == b.n {
		if q.first = b.next; q.first == nil {
			q.last = nil
		}
		pool.putBatch(b)
	}
	return it
}
