// Package files is the built-in service that receives files into a directory,
// and [Push], which sends them. One circuit carries one file or directory;
// several run at once. A file appears under its name only when all of it is
// there and its BLAKE3 hash is what the sender said.
package files

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"ckt.local/circuit"
	"ckt.local/peer"
)

// Name is the name under which the service is registered by convention.
const Name = "files"

// ErrNoDir: a files service needs a directory to receive into.
var ErrNoDir = errors.New("files: no directory to receive into")

// defaultPerNode is for a Config that does not bound MaxOpen.
const defaultPerNode = 64

// Config says where a service receives and how much. Zero fields are their
// defaults, negative numbers mean no limit.
type Config struct {
	// Dir is the directory that files are received into. It must exist.
	Dir string

	// MaxFileSize is the largest file that is taken, in bytes. Default 1 TiB.
	MaxFileSize int64

	// MaxOpen is how many files one peer receives at once; more circuits
	// wait, unread. Default 256.
	MaxOpen int

	// MaxOpenPerNode is how many of them one node, which is one key, sends at
	// once; its other circuits wait, unread, so that it keeps nobody else out.
	// Default a quarter of MaxOpen, but at least 1, and 64 if that is not
	// bounded.
	MaxOpenPerNode int

	// Logger gets what is refused and what fails. Default: discarded.
	Logger *slog.Logger
}

// Service returns the service that receives into cfg.Dir. Each peer opens the
// directory when it starts and holds it as an [os.Root]: no name, symbolic
// link or race leads out of it. No directory at all is [ErrNoDir].
//
// A process that is killed leaves ".ckt-….part" files behind. A peer that
// starts removes those that are older than a day.
func Service(cfg Config) (peer.PeerServiceFunc, error) {
	if cfg.Dir == "" {
		return nil, ErrNoDir
	}
	dir, err := filepath.Abs(cfg.Dir)
	if err != nil {
		return nil, fmt.Errorf("files: %w", err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("files: %w", err)
	}
	if err := root.Close(); err != nil {
		return nil, fmt.Errorf("files: %w", err)
	}
	r := receiver{
		maxSize: cmp.Or(cfg.MaxFileSize, 1<<40),
		log:     cmp.Or(cfg.Logger, slog.New(slog.DiscardHandler)),
		temps:   &temps{live: make(map[string]struct{})},
	}
	return func(_ *peer.LocalPeer, ctx0 context.Context, newCircuitCh <-chan *circuit.Circuit) error {
		root, err := os.OpenRoot(dir)
		if err != nil {
			return errors.New("files: the directory to receive into cannot be opened")
		}
		defer root.Close()
		mine := r
		mine.root = root
		mine.places = newPlaces(cmp.Or(cfg.MaxOpen, 256), cfg.MaxOpenPerNode)
		mine.serve(ctx0, newCircuitCh)
		return nil
	}, nil
}

// A receiver is what the circuits of one peer share. It does not change after
// it is made.
type receiver struct {
	root    *os.Root
	maxSize int64 // negative: any
	places  *places
	log     *slog.Logger
	temps   *temps // shared by all peers of the service
}

func (r *receiver) serve(ctx context.Context, newCircuitCh <-chan *circuit.Circuit) {
	var circuits sync.WaitGroup
	defer circuits.Wait()
	watched, stop := context.WithCancel(ctx)
	defer stop()
	circuits.Go(func() { r.places.guard(watched) })
	if now := time.Now(); r.temps.due(now) {
		circuits.Go(func() {
			if n := r.temps.sweep(ctx, r.root, now); n > 0 {
				r.log.Info("removed old files that were never complete", "files", n)
			}
		})
	}
	for {
		select {
		case <-ctx.Done():
			return
		case c, ok := <-newCircuitCh:
			if !ok {
				return
			}
			circuits.Go(func() { r.receive(ctx, c) })
		}
	}
}
