package node

import (
	"fmt"

	"ckt.local/peer"
	"ckt.local/transport/trust"
)

// A TrustFileError says which file about trust cannot be used. A node does not
// start without what it was told to go by; the known keys alone are missed only
// when an address without a key is dialled.
type TrustFileError struct {
	Path string
	What string // what it is to hold
	Err  error
}

// Error says what is wrong; the reason names the path where it matters.
func (e *TrustFileError) Error() string {
	return fmt.Sprintf("%s are not usable: %v", e.What, e.Err)
}

// Unwrap returns the reason.
func (e *TrustFileError) Unwrap() error { return e.Err }

// readTrust opens the files about trust for a node.
func (cfg Config) readTrust(pc *peer.Config) (err error) {
	fail := func(path, what string, err error) error {
		return &TrustFileError{Path: path, What: what, Err: err}
	}
	if cfg.PSK != "" {
		if pc.PreSharedKeys, err = trust.ReadPSKs(cfg.PSK); err != nil {
			return fail(cfg.PSK, "the pre-shared keys", err)
		}
	}
	if cfg.Rotation != "" {
		if pc.Rotation, err = trust.ReadRotation(cfg.Rotation); err != nil {
			return fail(cfg.Rotation, "statements about a new key", err)
		}
	}
	if cfg.Revoked != "" {
		f, err := trust.OpenRevoked(cfg.Revoked, cfg.Logger)
		if err != nil {
			return fail(cfg.Revoked, "the revoked keys", err)
		}
		pc.Revoked = f.Check
	}
	if cfg.KnownPeers != "" {
		// Only who dials an address without a key needs what is known.
		if pc.KnownPeers, err = trust.FollowKnown(cfg.KnownPeers, cfg.Logger); err != nil {
			return fail(cfg.KnownPeers, "the known keys", err)
		}
		_, _ = pc.KnownPeers.List() // tells the log now
		pc.TrustNew = cfg.TrustNew
	}
	return nil
}
