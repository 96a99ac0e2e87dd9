package attacktest

import (
	"math"

	"github.com/tinylib/msgp/msgp"

	"ckt.local/circuit"
	"ckt.local/transport"
)

// The frame types of docs/wire.md, as somebody would write them who has only
// read that.
const (
	frameHello    transport.FrameType = 0x01
	frameWelcome  transport.FrameType = 0x02
	frameRefusal  transport.FrameType = 0x03
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
	frameOptional transport.FrameType = 0x80
)

// How many elements the tuples have.
const (
	helloLen    = 6
	welcomeLen  = 5
	refusalLen  = 7
	settingsLen = 7
	refuseLen   = 4
)

// Operations of the node's own service.
const (
	opRefused = 1
	opStart   = 3
	opList    = 4
	opStop    = 7
)

// Codes of refusals.
const (
	refusedUnauthorized = 1
	refusedLimit        = 4
	refusedGone         = 8
)

// frameOf makes a frame.
func frameOf(typ transport.FrameType, body []byte) []byte {
	return append(transport.AppendFrameHeader(nil, typ, len(body)), body...)
}

// claim makes the front of a frame that says it has n bytes. n may be more
// than a frame can have.
func claim(typ transport.FrameType, n uint64, body ...byte) []byte {
	b := []byte{}
	for ; n >= 0x80; n >>= 7 {
		b = append(b, byte(n)|0x80)
	}
	return append(append(b, byte(n), byte(typ)), body...)
}

// An id is one of a circuit, a peer, or a peer's seed.
type id = circuit.ID

func newID() id { return circuit.NewID() }

// A tuple appends its elements after the header of an array.
type tuple []byte

func newTuple(n uint32) tuple                     { return msgp.AppendArrayHeader(nil, n) }
func (b tuple) uint(v uint64) tuple               { return msgp.AppendUint64(b, v) }
func (b tuple) int(v int64) tuple                 { return msgp.AppendInt64(b, v) }
func (b tuple) str(s string) tuple                { return msgp.AppendString(b, s) }
func (b tuple) id(v id) tuple                     { return msgp.AppendBytes(b, v[:]) }
func (b tuple) bin(v []byte) tuple                { return msgp.AppendBytes(b, v) }
func (b tuple) bool(v bool) tuple                 { return msgp.AppendBool(b, v) }
func (b tuple) null() tuple                       { return msgp.AppendNil(b) }
func (b tuple) array(n uint32) tuple              { return msgp.AppendArrayHeader(b, n) }
func (b tuple) raw(v ...byte) tuple               { return append(b, v...) }
func (b tuple) in(typ transport.FrameType) []byte { return frameOf(typ, b) }

// args appends a map of texts.
func (b tuple) args(pairs ...string) tuple {
	b = msgp.AppendMapHeader(b, uint32(len(pairs)/2))
	for _, s := range pairs {
		b = b.str(s)
	}
	return b
}

// A greeting is what a hello says.
type greeting struct {
	nonce, serial, replace uint64
	more                   []byte // elements of a newer minor version
	moreLen                uint32
}

func (g greeting) frame() []byte {
	return newTuple(helloLen + g.moreLen).uint(0).uint(0).uint(g.nonce).uint(g.serial).uint(g.replace).array(0).raw(g.more...).in(frameHello)
}

func welcome() []byte {
	return newTuple(welcomeLen).uint(0).uint(0).uint(1).uint(1).bin(nil).in(frameWelcome)
}

func refusal(code uint64) []byte {
	return newTuple(refusalLen).uint(code).str("no").uint(0).uint(0).uint(0).str("").uint(0).in(frameRefusal)
}

// settings are those of somebody who takes much and lets circuits wait for so
// many milliseconds.
func settings(window, payload, linger uint64) []byte {
	return newTuple(settingsLen).uint(window).uint(payload).uint(0).uint(linger).uint(64).uint(64 << 10).uint(4 << 10).in(frameSettings)
}

func resumed(more bool, ids ...id) []byte {
	b := newTuple(2).array(uint32(len(ids)))
	for _, v := range ids {
		b = b.id(v)
	}
	return b.bool(more).in(frameResumed)
}

func ack(stream, received, credit uint64) []byte {
	return newTuple(1).array(1).array(3).uint(stream).uint(received).uint(credit).in(frameAck)
}

func ping(nonce uint64) []byte { return newTuple(2).uint(nonce).bin(make([]byte, 64)).in(framePing) }
func pong(nonce uint64) []byte { return newTuple(1).uint(nonce).in(framePong) }

func yield(stream, from, to uint64) []byte {
	return newTuple(3).uint(stream).uint(from).uint(to).in(frameYield)
}

func want(stream, at, next, upto uint64) []byte {
	return newTuple(4).uint(stream).uint(at).uint(next).uint(upto).in(frameWant)
}

// An opening is what an open frame says.
type opening struct {
	circuit, from, to      id // from is a seed
	generation, received   uint64
	credit                 uint64
	fromService, toService string
	resume, first          bool
	wait                   uint64
}

// openTo is an honest opening of a circuit to a service.
func openTo(service string) opening {
	return opening{circuit: newID(), from: newID(), generation: 1, fromService: "mallory", toService: service, wait: 10_000}
}

func (o opening) frame() []byte {
	return newTuple(11).id(o.circuit).uint(o.generation).bool(o.resume).uint(o.received).uint(o.credit).
		id(o.from).str(o.fromService).id(o.to).str(o.toService).bool(o.first).uint(o.wait).in(frameOpen)
}

func accept(seed id, generation, received, credit uint64) []byte {
	return newTuple(4).id(seed).uint(generation).uint(received).uint(credit).in(frameAccept)
}

func refuse(code uint64) []byte {
	return newTuple(refuseLen).uint(code).str("no").str("").uint(0).in(frameRefuse)
}

func dataHead(serial uint64, op int64) tuple {
	return newTuple(6).uint(serial).int(op).str("").int(0)
}

func data(serial uint64, payload []byte) []byte {
	return frameOf(frameData, append(dataHead(serial, 0).null().str(""), payload...))
}

// request is a fragment to the node's own service.
func request(serial uint64, op int64, pairs ...string) []byte {
	return dataHead(serial, op).args(pairs...).str("").in(frameData)
}

func fin(last uint64) []byte { return newTuple(3).uint(last).bool(false).str("").in(frameFin) }

// An example is one whole frame of a type, as it may be, and where it stands.
type example struct {
	name  string
	at    place
	frame []byte
}

// A place is a kind of stream.
type place uint8

const (
	atHello   place = iota // the first stream
	atControl              // the control stream, after settings
	atFirst                // the first frame of any other stream
	atCircuit              // a circuit's stream, after the opening
	places
)

func (p place) String() string {
	return [places]string{"first stream", "control stream", "new stream", "circuit"}[p]
}

// examples returns one of each frame type.
func examples() []example {
	return []example{
		{"hello", atHello, greeting{nonce: 7, serial: 7}.frame()},
		{"welcome", atHello, welcome()},
		{"refusal", atHello, refusal(5)},
		{"settings", atFirst, settings(1<<20, 1<<20, 120_000)},
		{"ack", atControl, ack(math.MaxUint32, 1, 1<<20)},
		{"ping", atControl, ping(1 << 50)},
		{"pong", atControl, pong(1 << 50)},
		{"resumed", atControl, resumed(true, newID(), newID())},
		{"yield", atControl, yield(math.MaxUint32, 1<<20, 1<<19)},
		{"want", atControl, want(math.MaxUint32, 0, 1<<10, 1<<20)},
		{"open", atFirst, openTo("echo").frame()},
		{"accept", atCircuit, accept(newID(), 1, 0, 1<<20)},
		{"refuse", atCircuit, refuse(4)},
		{"data", atCircuit, dataHead(1, 5).args("key", "value").str("text").raw([]byte("payload")...).in(frameData)},
		{"fin", atCircuit, fin(9)},
	}
}
