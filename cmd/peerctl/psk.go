package main

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"ckt.local/transport/identity"
	"ckt.local/transport/trust"
)

const (
	pskLen  = 32      // bytes
	pskFile = 4 << 10 // the most bytes of a file with two
)

// newPSK makes a file with a pre-shared key.
func (a *app) newPSK(path string) error {
	err := trust.NewPSK(path)
	if errors.Is(err, fs.ErrExist) {
		return advise(err, "no key is overwritten; to replace it in steps: peerctl keygen --psk %s --add", path)
	}
	if err != nil {
		return err
	}
	a.say("copy it to the other machines, by a way that nobody else can read; all of them then need --psk FILE")
	return a.print(pskResult{File: path, Keys: 1})
}

// addPSK makes a second key, for the time in which the first is replaced.
func (a *app) addPSK(path string) error {
	keys, err := trust.ReadPSKs(path)
	if errors.Is(err, fs.ErrNotExist) {
		return advise(err, "make it: peerctl keygen --psk %s", path)
	}
	if err != nil {
		return err
	}
	if len(keys) > 1 {
		return advise(kindf(fs.ErrExist, "%s has two keys already, which is the most", path),
			"when all machines have both, drop the older one everywhere: peerctl keygen --psk %s --drop; then there is room for another", path)
	}
	key := make([]byte, pskLen)
	rand.Read(key) // never fails
	file := identity.SafeFile{Path: path, Max: pskFile, Holds: "pre-shared key"}
	if err := file.Append(func([]byte) (string, error) { return trust.FormatPSK(key), nil }); err != nil {
		return err
	}
	a.say("copy it to the other machines and restart their nodes: until all have both keys, either is good")
	a.say("then drop the older one everywhere, and restart them once more: peerctl keygen --psk %s --drop", path)
	return a.print(pskResult{File: path, Keys: 2})
}

// dropPSK takes the older of two keys off, when all machines have the second.
func (a *app) dropPSK(path string) error {
	keys, err := trust.ReadPSKs(path)
	if err != nil {
		return advise(err, "name the file that is to be changed, and mend it if need be")
	}
	if len(keys) < 2 {
		return advise(fmt.Errorf("%s has one key only, which stays", path),
			"to replace it, make another first: peerctl keygen --psk %s --add", path)
	}
	if err := trust.DropPSK(path); err != nil {
		return err
	}
	a.say("restart the nodes that use it; one that has only the older key gets no connection to them any more")
	return a.print(pskResult{File: path, Keys: 1})
}

// A pskResult never has a key in it.
type pskResult struct {
	File string `json:"file"`
	Keys int    `json:"keys"`
}

func (r pskResult) text(w io.Writer) error {
	_, err := fmt.Fprintf(w, "%s: %s\n", plain(r.File), number(r.Keys, "pre-shared key"))
	return err
}
