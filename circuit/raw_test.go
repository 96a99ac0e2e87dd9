package circuit_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"testing"
	"time"

	"github.com/tinylib/msgp/msgp"

	"ckt.local/circuit"
	"ckt.local/transport"
)

// The frame types of docs/wire.md, as somebody would write them who has only
// read that.
const (
	frameSettings transport.FrameType = 0x10
	frameAck      transport.FrameType = 0x11
	framePing     transport.FrameType = 0x12
	framePong     transport.FrameType = 0x13
	frameResumed  transport.FrameType = 0x14
	frameYield    transport.FrameType = 0x15
	frameWant     transport.FrameType = 0x16
	frameOpen     transport.FrameType = 0x20
	frameAccept   transport.FrameType = 0x21
	frameRefuse   transport.FrameType = 0x22
	frameData     transport.FrameType = 0x23
	frameFin      transport.FrameType = 0x24
)

// What docs/wire.md gives for circuits that are no more.
const (
	refusedGone circuit.RefuseCode = 8
	codeGone    transport.Code     = 256
)

// frameOf makes a frame.
func frameOf(typ transport.FrameType, body []byte) []byte {
	return append(transport.AppendFrameHeader(nil, typ, len(body)), body...)
}

// A tuple appends its elements after the header of an array.
type tuple []byte

func newTuple(n uint32) tuple                     { return msgp.AppendArrayHeader(nil, n) }
func (b tuple) uint(v uint64) tuple               { return msgp.AppendUint64(b, v) }
func (b tuple) int(v int64) tuple                 { return msgp.AppendInt64(b, v) }
func (b tuple) str(s string) tuple                { return msgp.AppendString(b, s) }
func (b tuple) bin(id circuit.ID) tuple           { return msgp.AppendBytes(b, id[:]) }
func (b tuple) data(v []byte) tuple               { return msgp.AppendBytes(b, v) }
func (b tuple) bool(v bool) tuple                 { return msgp.AppendBool(b, v) }
func (b tuple) null() tuple                       { return msgp.AppendNil(b) }
func (b tuple) array(n uint32) tuple              { return msgp.AppendArrayHeader(b, n) }
func (b tuple) in(typ transport.FrameType) []byte { return frameOf(typ, b) }

// args appends a map of n pairs whose keys begin with key.
func (b tuple) args(n uint32, key string) tuple {
	b = msgp.AppendMapHeader(b, n)
	for i := range n {
		b = b.str(fmt.Sprintf("%s%02d", key, i)).str("")
	}
	return b
}

func settingsFrame(window, payload uint64) []byte {
	return newTuple(7).uint(window).uint(payload).uint(0).uint(0).uint(0).uint(0).uint(0).in(frameSettings)
}

// lastingFrame is settings of circuits that outlive their connections.
func lastingFrame() []byte {
	return newTuple(7).uint(1 << 20).uint(1 << 20).uint(0).uint(120_000).uint(0).uint(0).uint(0).in(frameSettings)
}

func resumedFrame(more bool, ids ...circuit.ID) []byte {
	b := newTuple(2).array(uint32(len(ids)))
	for _, id := range ids {
		b = b.bin(id)
	}
	return b.bool(more).in(frameResumed)
}

func yieldFrame(stream, from, to uint64) []byte {
	return newTuple(3).uint(stream).uint(from).uint(to).in(frameYield)
}

func pingFrame(nonce uint64) []byte { return newTuple(2).uint(nonce).data(nil).in(framePing) }

func ackFrame(stream, received, credit uint64) []byte {
	return newTuple(1).array(1).array(3).uint(stream).uint(received).uint(credit).in(frameAck)
}

func dataFrame(serial uint64, payload []byte) []byte {
	head := newTuple(6).uint(serial).int(0).str("").int(0).null().str("")
	return frameOf(frameData, append(head, payload...))
}

func finFrame(last uint64) []byte {
	return newTuple(3).uint(last).bool(false).str("").in(frameFin)
}

func acceptFrame(seed circuit.ID) []byte {
	return newTuple(4).bin(seed).uint(1).uint(0).uint(1 << 20).in(frameAccept)
}

func refuseFrame(code uint64) []byte {
	return newTuple(4).uint(code).str("no").str("").uint(0).in(frameRefuse)
}

// opening is what an open frame says.
type opening struct {
	id, from, to           circuit.ID // from is a seed
	generation, received   uint64
	credit                 uint64 // of one that resumes
	fromService, toService string
	first, resume          bool
}

func newOpening() opening {
	return opening{id: circuit.NewID(), from: circuit.NewID(), generation: 1, fromService: "any", toService: "any"}
}

func (o opening) frame() []byte {
	return newTuple(11).bin(o.id).uint(o.generation).bool(o.resume).uint(o.received).uint(o.credit).bin(o.from).str(o.fromService).
		bin(o.to).str(o.toService).bool(o.first).uint(0).in(frameOpen)
}

// rawPeer is a node that says what it likes to an honest one.
type rawPeer struct {
	t       *testing.T
	conn    transport.Conn
	control transport.Stream // ours; nil until settings
	honest  *side
	from    transport.Endpoint
	at      transport.Endpoint // the honest node's
}

// newRaw connects a raw node to an honest one, which is closed with the test.
func newRaw(t *testing.T, cfg circuit.Config) *rawPeer {
	t.Helper()
	at := endpointAt(t, loopback(t))
	r := connectRaw(t, at, cfg)
	t.Cleanup(func() { at.Close() })
	return r
}

// connectRaw connects one more raw node, with a key of its own.
func connectRaw(t *testing.T, at transport.Endpoint, cfg circuit.Config) *rawPeer {
	t.Helper()
	r := &rawPeer{t: t, from: endpointAt(t, loopback(t)), at: at, honest: newSide(at)}
	got := make(chan transport.Conn, 1)
	go func() {
		c, err := at.Accept(t.Context())
		if err != nil {
			t.Error(err)
		}
		got <- c
	}()
	var err error
	if r.conn, err = r.from.Dial(t.Context(), at.Addr().String(), at.Key()); err != nil {
		t.Fatal(err)
	}
	r.honest.link = circuit.NewLink(<-got, r.honest, cfg)
	t.Cleanup(r.close)
	return r
}

// close joins everything of the honest side: what does not end fails the test
// by its timeout.
func (r *rawPeer) close() {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
	defer cancel()
	r.honest.link.Shutdown(ctx, nil)
	close(r.honest.news)
	for c := range r.honest.news {
		c.Close()
	}
	r.from.Close()
	if n := r.honest.count(); n != 0 {
		r.t.Errorf("the owner was not told of the end of %d circuits", n)
	}
	if n := r.honest.link.Leftover(); n != 0 {
		r.t.Errorf("the link still knows %d circuits", n)
	}
}

// in returns r for a subtest.
func (r *rawPeer) in(t *testing.T) *rawPeer {
	sub := *r
	sub.t = t
	return &sub
}

// stream opens a stream and writes b to it.
func (r *rawPeer) stream(b []byte) transport.Stream {
	r.t.Helper()
	s, err := r.conn.OpenStream(r.t.Context())
	if err != nil {
		r.t.Fatal(err)
	}
	write(r.t, s, b)
	return s
}

func write(t *testing.T, s transport.Stream, b []byte) {
	t.Helper()
	if _, err := s.Write(b); err != nil {
		t.Fatal(err)
	}
}

// settle says settings on a control stream.
func (r *rawPeer) settle() *rawPeer {
	r.t.Helper()
	r.control = r.stream(settingsFrame(1<<20, 1<<20))
	return r
}

// open opens a circuit as an honest node would, and takes the yes.
func (r *rawPeer) open() (transport.Stream, *circuit.Circuit) {
	r.t.Helper()
	s := r.stream(newOpening().frame())
	wantFrame(r.t, s, frameAccept)
	return s, <-r.honest.news
}

// wantFrame reads one frame of a type.
func wantFrame(t *testing.T, s transport.Stream, want transport.FrameType) []byte {
	t.Helper()
	s.SetReadDeadline(time.Now().Add(20 * time.Second))
	typ, body, err := transport.ReadFrame(s, 1<<20)
	if err != nil || typ != want {
		t.Fatalf("read frame type %#x, %v; want type %#x", byte(typ), err, byte(want))
	}
	return body
}

// wantReset reads until the honest side has reset the stream with code.
func wantReset(t *testing.T, s transport.Stream, code transport.Code) {
	t.Helper()
	s.SetReadDeadline(time.Now().Add(20 * time.Second))
	_, err := io.Copy(io.Discard, s)
	if re, ok := errors.AsType[*transport.RemoteError](err); !ok || re.Code != code {
		t.Errorf("the stream ends with %v, want a reset with code %v", err, code)
	}
}

// wantRefusal reads a refusal with code.
func wantRefusal(t *testing.T, s transport.Stream, code circuit.RefuseCode) {
	t.Helper()
	body := wantFrame(t, s, frameRefuse)
	if got, _, err := msgp.ReadUint64Bytes(body[1:]); err != nil || circuit.RefuseCode(got) != code {
		t.Errorf("refused with %v, %v, want %v", circuit.RefuseCode(got), err, code)
	}
	s.Reset(transport.CodeClosed) // as an opener does
}

// wantLinkFault waits until the honest side has closed the connection because
// the other side broke the protocol.
func (r *rawPeer) wantLinkFault() {
	r.t.Helper()
	<-r.honest.link.Context().Done()
	<-r.conn.Context().Done()
	cause := context.Cause(r.conn.Context())
	if re, ok := errors.AsType[*transport.RemoteError](cause); !ok || re.Code != transport.CodeProtocol {
		r.t.Errorf("the connection ends with %v, want code %v", cause, transport.CodeProtocol)
	}
}

// wantLostBy waits for the one end of a circuit whose stream is at fault.
func wantLostBy(t *testing.T, c *circuit.Circuit) {
	t.Helper()
	for range c.Reads {
	}
	<-c.Context.Done()
	cause := context.Cause(c.Context)
	if _, ok := errors.AsType[*circuit.LostError](cause); !ok {
		t.Errorf("the circuit ends with %v, want a LostError", cause)
	}
	if err := c.SendOneWay(frag(1, "")); err != cause {
		t.Errorf("sending after the end: %v, want %v", err, cause)
	}
}

// wantAlive sends a fragment through an open circuit.
func wantAlive(t *testing.T, s transport.Stream, c *circuit.Circuit, serial uint64) {
	t.Helper()
	write(t, s, dataFrame(serial, []byte("alive")))
	if f, ok := <-c.Reads; !ok || f.Serial != int64(serial) || !bytes.Equal(f.Payload, []byte("alive")) {
		t.Errorf("a circuit beside the bad one gets %+v, %v", f, context.Cause(c.Context))
	}
}
