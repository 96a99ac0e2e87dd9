package nettest

import (
	"encoding/binary"
	"net"
	"syscall"
)

// Lose makes the host drop percent of the packets that reach it, each by
// chance, as the rule "numgen random mod 100 < percent drop" of nftables does.
// 100 is a cut in this direction, 0 undoes it. What the host sends is not
// touched: a path that loses in both directions has two hosts that do.
func (h *Host) Lose(percent int) {
	h.t.Helper()
	h.must("loss", h.run(func() error { return setLoss(uint32(percent)) }))
}

// Shape bounds what the host sends to that many bits a second, behind a queue
// of so many bytes, as the queueing discipline tbf does.
func (h *Host) Shape(bitsPerSecond, queue int) {
	h.t.Helper()
	h.must("shape", h.run(func() error { return addTBF(bitsPerSecond, queue) }))
}

// addTBF sends a struct tc_tbf_qopt; see linux/pkt_sched.h.
func addTBF(bitsPerSecond, queue int) error {
	card, err := net.InterfaceByName(device)
	if err != nil {
		return err
	}
	const (
		kindAttr, optionsAttr = 1, 2
		parmsAttr, burstAttr  = 1, 6
		ethernet              = 1          // no table of rates is needed
		root                  = 0xFFFFFFFF // TC_H_ROOT
		burst                 = 3200       // two packets
	)
	head := []byte{syscall.AF_UNSPEC, 0, 0, 0}
	for _, v := range []uint32{uint32(card.Index), 1 << 16, root, 0} { // device, handle 1:, parent, info
		head = binary.NativeEndian.AppendUint32(head, v)
	}
	parms := []byte{0, ethernet, 0, 0, 0, 0, 0, 0}
	parms = binary.NativeEndian.AppendUint32(parms, uint32(bitsPerSecond/8))
	parms = append(parms, make([]byte, 12)...) // no peak rate
	for _, v := range []uint32{uint32(queue), 0, 0} {
		parms = binary.NativeEndian.AppendUint32(parms, v)
	}
	return requestRoute(syscall.RTM_NEWQDISC, syscall.NLM_F_CREATE|syscall.NLM_F_REPLACE,
		head, attrText(kindAttr, "tbf"), nest(optionsAttr, attr(parmsAttr, parms), attrNative(burstAttr, burst)))
}

// Of linux/netfilter/nf_tables.h: messages, and attributes of rules.
const (
	nftNewTable, nftDelTable = 0, 2
	nftNewChain, nftNewRule  = 3, 6
	batchBegin, batchEnd     = 0x10, 0x11
	subsystem                = 10 // NFNL_SUBSYS_NFTABLES
	inet                     = 1  // NFPROTO_INET: IPv4 and IPv6

	table, chain = "faults", "input"
)

// setLoss replaces the table of faults of this thread's namespace.
func setLoss(percent uint32) error {
	steps := []step{
		{nftNewTable, tableBody()}, // so that there is one to delete
		{nftDelTable, tableBody()},
	}
	if percent > 0 {
		steps = append(steps, step{nftNewTable, tableBody()}, step{nftNewChain, chainBody()}, step{nftNewRule, lossBody(percent)})
	}
	s, err := openSocket(netlinkNetfilter)
	if err != nil {
		return err
	}
	defer s.close()
	batch := func(kind uint16) []byte {
		s.seq++
		return message(kind, syscall.NLM_F_REQUEST, s.seq, []byte{0, 0, 0, subsystem})
	}
	msgs := batch(batchBegin)
	for _, st := range steps {
		s.seq++
		body := append([]byte{inet, 0, 0, 0}, st.body...)
		flags := uint16(syscall.NLM_F_REQUEST | syscall.NLM_F_ACK | syscall.NLM_F_CREATE | syscall.NLM_F_APPEND)
		msgs = append(msgs, message(subsystem<<8|st.kind, flags, s.seq, body)...)
	}
	last := s.seq
	return s.exchange(append(msgs, batch(batchEnd)...), last)
}

// A step is one message of a batch, without its header.
type step struct {
	kind uint16
	body []byte
}

func tableBody() []byte { return attrText(1, table) }

func chainBody() []byte {
	const local, name, hook, policy, kind = 1, 3, 4, 5, 7
	const hooknum, priority = 1, 2
	const input, accept = 1, 1
	return concat(attrText(local, table), attrText(name, chain),
		nest(hook, attrBig(hooknum, input), attrBig(priority, 0)),
		attrBig(policy, accept), attrText(kind, "filter"))
}

// lossBody is the rule: a random number below 100 into a register, in network
// order because that is how registers are compared, and if it is less than
// percent, count and drop.
func lossBody(percent uint32) []byte {
	const inTable, inChain, expressions, element = 1, 2, 4, 1
	const register = 1
	const random, toNetwork, less, verdict, drop = 1, 1, 2, 0, 0
	expression := func(name string, attrs ...[]byte) []byte {
		return nest(element, attrText(1, name), nest(2, attrs...))
	}
	return concat(attrText(inTable, table), attrText(inChain, chain), nest(expressions,
		expression("numgen", attrBig(1, register), attrBig(2, 100), attrBig(3, random), attrBig(4, 0)),
		expression("byteorder", attrBig(1, register), attrBig(2, register), attrBig(3, toNetwork), attrBig(4, 4), attrBig(5, 4)),
		expression("cmp", attrBig(1, register), attrBig(2, less), nest(3, attrBig(1, percent))),
		expression("counter"),
		expression("immediate", attrBig(1, verdict), nest(2, nest(2, attrBig(1, drop)))),
	))
}
