package quic

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"fmt"

	"ckt.local/transport"
)

// A pre-shared key is a second lock besides the node keys: whoever has stolen a
// listed key, or has got a line into authorized_peers, still cannot connect.
// Both sides prove that they have it, for this TLS session only: what is
// recorded, or passed on by somebody in the middle, proves nothing elsewhere.
//
// While the key is being replaced a node has the old one and the new one. It
// dials with a proof of each, and takes either.
const (
	maxPSKs   = 2
	minPSKLen = 32
	maxPSKLen = 64

	proofLen = sha256.Size

	pskExport    = "EXPORTER-ckt-psk" // these three are part of the wire format
	dialledRole  = "ckt/1 dialler"
	acceptedRole = "ckt/1 acceptor"
)

// What the other side reads when the keys do not fit.
const (
	diallerLacksPSK = "the node that dials has no pre-shared key, and the one that answers asks for it: " +
		"give the same key to both"
	acceptorLacksPSK = "the node that answers has no pre-shared key, and the one that dials uses one: " +
		"give the same key to both, or to neither"
	otherPSK = "the two nodes have different pre-shared keys: give the same one to both"
)

// errNoProof is why a welcome is not taken.
var errNoProof = errors.New("it has not proved to have the pre-shared key of this node: give the same key to both")

// checkPSKs is for the configuration.
func checkPSKs(keys [][]byte) error {
	if len(keys) > maxPSKs {
		return fmt.Errorf("transport/quic: %d pre-shared keys, at most %d can be in use", len(keys), maxPSKs)
	}
	for _, key := range keys {
		if len(key) < minPSKLen || len(key) > maxPSKLen {
			return fmt.Errorf("transport/quic: a pre-shared key of %d bytes, not %d to %d", len(key), minPSKLen, maxPSKLen)
		}
	}
	return nil
}

// A prover makes and checks the proofs of one TLS session.
type prover struct {
	keys   [][]byte
	export []byte // nil without keys
}

func newProver(cs tls.ConnectionState, keys [][]byte) (prover, error) {
	if len(keys) == 0 {
		return prover{}, nil
	}
	export, err := cs.ExportKeyingMaterial(pskExport, nil, proofLen)
	if err != nil {
		return prover{}, fmt.Errorf("transport/quic: pre-shared key: %w", err)
	}
	return prover{keys: keys, export: export}, nil
}

func (p prover) proof(key []byte, role string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(role))
	h.Write(p.export)
	return h.Sum(nil)
}

// dialled returns what goes into a hello.
func (p prover) dialled() [][]byte {
	var proofs [][]byte
	for _, key := range p.keys {
		proofs = append(proofs, p.proof(key, dialledRole))
	}
	return proofs
}

// accept judges the proofs of a hello, and returns what goes into the welcome.
func (p prover) accept(proofs [][]byte) ([]byte, error) {
	switch {
	case len(p.keys) == 0 && len(proofs) == 0:
		return nil, nil
	case len(p.keys) == 0:
		return nil, &refusalError{code: transport.CodePSK, reason: acceptorLacksPSK}
	case len(proofs) == 0:
		return nil, &refusalError{code: transport.CodePSK, reason: diallerLacksPSK}
	}
	var common []byte
	for _, key := range p.keys { // all of them: how long it takes says nothing
		want := p.proof(key, dialledRole)
		for _, proof := range proofs {
			if hmac.Equal(proof, want) {
				common = key
			}
		}
	}
	if common == nil {
		return nil, &refusalError{code: transport.CodePSK, reason: otherPSK}
	}
	return p.proof(common, acceptedRole), nil
}

// proves reports whether the proof of a welcome is good.
func (p prover) proves(proof []byte) bool {
	if len(p.keys) == 0 {
		return len(proof) == 0
	}
	good := false
	for _, key := range p.keys {
		if hmac.Equal(proof, p.proof(key, acceptedRole)) {
			good = true
		}
	}
	return good
}

func clonePSKs(keys [][]byte) [][]byte {
	var own [][]byte
	for _, key := range keys {
		own = append(own, bytes.Clone(key))
	}
	return own
}
