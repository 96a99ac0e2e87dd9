package circuit

// fragment makes what the user gets: the sender's part as it came, the rest
// from what this side knows.
func (a *attachment) fragment(w *wireFragment, payload []byte) (f *Fragment, err error) {
	if err := a.c.link.cfg.sizes().check(w, len(payload)); err != nil {
		return nil, faultf("%v", err)
	}
	// What the reader has the frame in becomes the fragment's, if it has that to
	// itself, and not if most of it are the texts, which have been copied.
	var m *memory
	if len(payload) >= len(a.fr.buf)/2 {
		m = a.fr.hand()
	}
	if m == nil && len(payload) > leastMemory {
		m = a.fr.pool.allot(len(payload))
		payload = m.bytes[:copy(m.bytes, payload)]
	}
	if m != nil {
		a.stamp(&m.frag, w)
		m.frag.Payload, m.frag.memory = payload[:len(payload):len(payload)], m
		return &m.frag, nil
	}
	if w.Err != "" {
		f = &Fragment{} // Errors may be left unread for ever, and would keep a block each
	} else {
		f = a.small()
	}
	a.stamp(f, w)
	if f.block != nil {
		f.Payload = f.block.keep(payload)
	}
	if f.Payload == nil {
		f.Payload = append([]byte(nil), payload...)
	}
	return f, nil
}

// small returns a fragment whose payload is short: in a block, if many have been
// at hand at once. What of a block is not used yet is for those that come later.
func (a *attachment) small() *Fragment {
	if a.block == nil && a.fr.ahead(blockLeast-1) {
		a.block = a.fr.pool.block()
	}
	if a.block == nil {
		return &Fragment{}
	}
	if f := a.block.fragment(); f != nil {
		return f
	}
	a.endBlock()
	return a.small()
}

// endBlock gives up the block that is being filled: when it is full, and when
// the circuit goes idle.
func (a *attachment) endBlock() {
	if a.block != nil {
		a.block.full()
		a.block = nil
	}
}

// stamp fills in all but the payload.
func (a *attachment) stamp(f *Fragment, w *wireFragment) {
	c := a.c
	f.FromPeerID = c.remoteText
	f.ToPeerID = c.localText
	f.CircuitID = c.text
	f.Serial = int64(w.Serial)
	f.ServiceName = c.remote.service
	f.FragOp = int(w.Op)
	f.FragSubject = w.Subject
	f.FragPart = w.Part
	f.Args = w.Args
	f.Err = w.Err
	f.Typ = CallData
	switch {
	case f.Err != "":
		f.Typ = CallError
	case c.accepted && c.first && f.Serial == 1:
		f.Typ = CallFirst
	}
}
