package main

import (
	"errors"
	"os"
	"runtime/pprof"
)

// A profile of a child's processor time is being written while a task runs.
type profile struct{ file *os.File }

// start begins to write into a file of that name.
func (p *profile) start(name string) error {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	if err := pprof.StartCPUProfile(f); err != nil {
		return errors.Join(err, f.Close())
	}
	p.file = f
	return nil
}

// stop writes what there is, and beside it where the process has allocated
// since it began.
func (p *profile) stop() error {
	if p.file == nil {
		return errors.New("no profile is being written")
	}
	pprof.StopCPUProfile()
	name := p.file.Name() + ".allocs"
	err := p.file.Close()
	p.file = nil
	f, ferr := os.Create(name)
	if ferr != nil {
		return errors.Join(err, ferr)
	}
	return errors.Join(err, pprof.Lookup("allocs").WriteTo(f, 0), f.Close())
}
