package circuit

import (
	"math/bits"
	"sync"
	"sync/atomic"
)

// bufSize is the size of the pooled buffers that frames are read into and
// written from. It holds hundreds of small frames, so that they share one
// call, and is no more than what each circuit has for certain.
const bufSize = 16 * 1024

// buffers lends memory to all busy circuits of a node; an idle circuit holds
// none. There is not one for each link: what a link leaves in it when it ends
// would be of no use to anybody, and be kept until the second collection.
type buffers struct {
	frames  pool[[bufSize]byte]
	batches pool[batch]
	catches pool[catch]
	blocks  pool[block]
	chunks  pool[chunk]
	senders pool[sender]
	memory  [memoryClasses]sync.Pool // of *memory, by class
}

// A pool lends what is used again, and makes it if it has none.
type pool[T any] struct{ p sync.Pool }

func (p *pool[T]) get() *T {
	if v, ok := p.p.Get().(*T); ok {
		return v
	}
	return new(T)
}

func (p *pool[T]) put(v *T) { p.p.Put(v) }

// get returns a buffer for frames.
func (b *buffers) get() []byte { return b.frames.get()[:] }

func (b *buffers) put(buf []byte) {
	if cap(buf) == bufSize {
		b.frames.put((*[bufSize]byte)(buf[:bufSize]))
	}
}

// memory is what one payload with its fragment, or one frame that is longer
// than a pooled buffer, is kept in. It is used again if its last user says so,
// and is garbage like any other if not.
type memory struct {
	frag  Fragment
	bytes []byte
	home  *buffers
	class int
}

// allot returns at least n bytes, with anything in them.
func (b *buffers) allot(n int) *memory {
	class, size := memoryClass(n)
	if class < 0 {
		return &memory{bytes: make([]byte, n), class: -1}
	}
	if m, ok := b.memory[class].Get().(*memory); ok {
		return m
	}
	return &memory{bytes: make([]byte, size), home: b, class: class}
}

// free gives m back. Its bytes must not be used any more.
func (m *memory) free() {
	if m.class >= 0 {
		m.home.memory[m.class].Put(m)
	}
}

// Classes are four to each doubling: a fifth of what they have is wasted at
// the most. What they have beyond a round number is for the head of a frame.
const (
	memoryBeyond  = 64
	leastMemory   = 256 // a shorter payload is not worth it
	memoryClasses = 80  // up to 128 MiB
)

// memoryClass returns the class for n bytes, and its size; -1: none.
func memoryClass(n int) (class, size int) {
	n = max(n-memoryBeyond, leastMemory/2+1)
	length := bits.Len(uint(n - 1)) // 8 or more
	step := length - 3
	units := (n + 1<<step - 1) >> step // 5 to 8
	class = (length-8)*4 + units - 5
	if class >= memoryClasses {
		return -1, 0
	}
	return class, units<<step + memoryBeyond
}

const (
	// blockFragments is how many fragments share one block, blockBytes how many
	// bytes of payload.
	blockFragments = 16
	blockBytes     = 2048

	// blockLeast is how many fragments must be at hand for a block to be begun:
	// they cost more of a window than a block takes.
	blockLeast = 10
)

// A block is memory that small fragments which have come together share: an
// allocation for each would cost more than all else that is done for one. It
// is used again when all of them have been released.
type block struct {
	home *buffers
	left atomic.Int32 // fragments in use; more while the reader fills it

	// What follows is the reader's, as long as it has the block.
	n     int // fragments given out
	used  int // of data
	frags [blockFragments]Fragment
	data  [blockBytes]byte
}

// blockOpen is counted in left while the reader fills a block.
const blockOpen = 1 << 20

func (b *buffers) block() *block {
	k := b.blocks.get()
	k.home, k.n, k.used = b, 0, 0
	k.left.Store(blockOpen)
	return k
}

// fragment gives out the next fragment; nil: there is none.
func (k *block) fragment() *Fragment {
	if k.n == blockFragments {
		return nil
	}
	f := &k.frags[k.n]
	k.n++
	f.block = k
	return f
}

// keep copies p; nil: there is no room for it.
func (k *block) keep(p []byte) []byte {
	if len(p) > blockBytes-k.used {
		return nil
	}
	end := k.used + len(p)
	kept := k.data[k.used:end:end]
	copy(kept, p)
	k.used = end
	return kept
}

// full ends the reader's part.
func (k *block) full() { k.drop(blockOpen - k.n) }

// drop counts n fragments as out of use.
func (k *block) drop(n int) {
	if k.left.Add(-int32(n)) == 0 {
		k.home.blocks.put(k)
	}
}

// A batch is a part of a queue.
type batch struct {
	at, n int // items[at:n] are in use
	items [32]item
	next  *batch
}

// putBatch takes back a batch whose items are zero.
func (b *buffers) putBatch(t *batch) {
	t.at, t.n, t.next = 0, 0, nil
	b.batches.put(t)
}

// A catch is what a reader has taken from its stream and not handed on yet: it
// has room for nearly all small fragments that a buffer has.
type catch struct {
	n     int
	items [128]item
}
