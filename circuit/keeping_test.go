package circuit

import (
	"bytes"
	"io"
	"runtime"
	"strings"
	"testing"
)

// feed has the reader of a circuit's attachment take what is in data.
func (f *fakeCircuit) feed(t *testing.T, data []byte) {
	t.Helper()
	a := f.at
	a.fr.r = bytes.NewReader(data)
	for {
		typ, body, err := a.fr.next()
		if err == nil {
			err = a.onFrame(typ, body)
		}
		if err == io.EOF {
			a.fr.release()
			return
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// What is unread takes no more memory than it costs of a window, however its
// sender mixes it with what costs nothing, or what the user reads.
func TestUnreadCostsWhatIsBooked(t *testing.T) {
	frame := func(w *wireFragment, payload ...byte) []byte { return frameBytes(frameData, body(w, payload...)) }
	big := map[string]string{"k": strings.Repeat("v", 60<<10)}
	for _, tc := range []struct {
		name string
		next func(serial uint64) []byte // what is sent with it
		read bool                       // Reads, and not Errors
	}{
		{"empty", func(n uint64) []byte { return frame(&wireFragment{Serial: n}) }, false},
		{"each behind fifteen that have come before", func(n uint64) []byte {
			return append(bytes.Repeat(frame(&wireFragment{Serial: 1}), 15), frame(&wireFragment{Serial: n})...)
		}, false},
		{"errors among what is read", func(n uint64) []byte {
			if n%16 == 0 {
				return frame(&wireFragment{Serial: n, Err: "e"})
			}
			return frame(&wireFragment{Serial: n}, 1, 2, 3)
		}, true},
		{"long args and no payload", func(n uint64) []byte { return frame(&wireFragment{Serial: n, Args: big}) }, false},
		{"payloads of a size that is not a pool's", func(n uint64) []byte {
			return frame(&wireFragment{Serial: n}, make([]byte, 300)...)
		}, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			inFake(t, Config{}, func(t *testing.T, c *fakeCircuit) {
				before := heapNow()
				kept := 0
				for serial := uint64(1); kept < 6<<20; {
					c.mu.Lock()
					c.s.granted = 1 << 40 // the test is about memory, not about credit
					c.mu.Unlock()
					var data []byte
					for ; len(data) < 100<<10; serial++ {
						data = append(data, tc.next(serial)...)
					}
					c.feed(t, data)
					c.mu.Lock()
					for tc.read && c.s.in.reads.n > 0 {
						it := c.s.in.reads.pop(c.s.in.pool)
						c.s.took += uint64(it.cost)
						it.f.Release()
					}
					kept = int(c.s.rcvCost - c.s.took)
					c.mu.Unlock()
					if serial > 1<<20 {
						t.Fatal("nothing is kept")
					}
				}
				grown := heapNow() - before
				t.Logf("%d bytes of credit keep %d of memory", kept, grown)
				if grown > int64(kept)*5/4+1<<20 {
					t.Errorf("what costs %d of a window takes %d bytes of memory", kept, grown)
				}
				runtime.KeepAlive(c)
			})
		})
	}
}

// A fragment whose memory was another's shows nothing of that.
func TestReusedFragmentIsBlank(t *testing.T) {
	inFake(t, Config{}, func(t *testing.T, c *fakeCircuit) {
		old := Fragment{
			Typ: CallError, FragOp: 1, FragSubject: "s", FragPart: 2, Args: map[string]string{"k": "v"},
			Payload: []byte("old"), Err: "e", Serial: 3, ServiceName: "old", FromPeerID: "old", ToPeerID: "old", CircuitID: "old",
		}
		fresh, used := Fragment{}, old
		for _, f := range []*Fragment{&fresh, &used} {
			c.at.stamp(f, &wireFragment{Serial: 7})
		}
		used.Payload = nil // what follows stamp sets it
		if used.Typ != fresh.Typ || used.FragOp != 0 || used.FragSubject != "" || used.FragPart != 0 || used.Args != nil || used.Err != "" ||
			used.Serial != 7 || used.ServiceName != fresh.ServiceName || used.FromPeerID != fresh.FromPeerID || used.CircuitID != fresh.CircuitID {
			t.Errorf("%+v, want %+v", used, fresh)
		}
	})
}

func heapNow() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
