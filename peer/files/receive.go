package files

import (
	"encoding/hex"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"time"

	"github.com/zeebo/blake3"

	"ckt.local/circuit"
)

// incoming is the file that one circuit brings. The goroutine of the circuit
// owns it.
type incoming struct {
	root    *os.Root
	temps   *temps
	maxSize int64

	begun bool
	meta  meta
	temp  string   // "" when there is no temporary file
	file  *os.File // nil when closed
	hash  *blake3.Hasher
	got   int64 // bytes written
	sum   digest
}

// take handles one fragment and reports whether the file, or directory, is
// now complete under its name.
func (in *incoming) take(f *circuit.Fragment) (done bool, err error) {
	switch {
	case f.FragOp == opPut && !in.begun:
		in.begun = true
		in.meta.path = f.FragSubject
		return in.begin(f)
	case f.FragOp == opData && in.file != nil:
		return false, in.write(f.Payload)
	case f.FragOp == opEnd && in.file != nil:
		return true, in.finish(f)
	}
	return false, &requestError{what: fmt.Sprintf("operation %d now", f.FragOp)}
}

func (in *incoming) begin(f *circuit.Fragment) (done bool, err error) {
	if f.FragSubject == rootPath && f.Args[argKind] == kindDir {
		return true, nil // it is open
	}
	if err := CheckPath(f.FragSubject); err != nil {
		return false, err
	}
	m, err := parseMeta(f)
	if err != nil {
		return false, err
	}
	if in.maxSize > 0 && m.size > in.maxSize {
		return false, &SizeError{Size: m.size, Limit: in.maxSize}
	}
	if err := checkWay(in.root, m); err != nil {
		return false, err
	}
	in.meta = m
	if m.dir {
		return true, in.makeDir()
	}
	return false, in.create()
}

// makeDir gives a directory its permission bits, and its owner always all
// three: otherwise nothing more could be received into it.
func (in *incoming) makeDir() error {
	name := filepath.FromSlash(in.meta.path)
	if err := in.root.MkdirAll(name, 0o777); err != nil {
		return err
	}
	if in.meta.anyMode {
		return nil
	}
	return in.root.Chmod(name, in.meta.mode|0o700)
}

func (in *incoming) create() error {
	dir := path.Dir(in.meta.path)
	if err := in.root.MkdirAll(filepath.FromSlash(dir), 0o777); err != nil {
		return err
	}
	temp := filepath.FromSlash(path.Join(dir, tempName(time.Now())))
	in.temps.add(temp)
	file, err := in.root.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		in.temps.remove(temp)
		return err
	}
	in.temp, in.file, in.hash = temp, file, blake3.New()
	return nil
}

func (in *incoming) write(p []byte) error {
	if size := in.got + int64(len(p)); size > in.meta.size {
		return &SizeError{Size: size, Limit: in.meta.size}
	}
	n, err := in.file.Write(p)
	in.got += int64(n)
	_, _ = in.hash.Write(p) // never fails
	return err
}

// finish makes the file appear under its name, whole and on the disk.
func (in *incoming) finish(f *circuit.Fragment) error {
	want, err := parseDigest(f)
	if err != nil {
		return err
	}
	in.sum = digest{hash: hex.EncodeToString(in.hash.Sum(nil)), bytes: in.got}
	if in.sum != want || in.got != in.meta.size {
		return ErrHashMismatch
	}
	if err := in.settle(); err != nil {
		return err
	}
	name := filepath.FromSlash(in.meta.path)
	if err := in.root.Rename(in.temp, name); err != nil {
		if info, e := in.root.Lstat(name); e == nil && !info.Mode().IsRegular() {
			return &PathError{Path: in.meta.path, Reason: inTheWay(info.Mode(), false)}
		}
		return err
	}
	in.temps.remove(in.temp)
	in.temp = ""
	return nil
}

// settle gives the temporary file its mode and time, and waits for the disk:
// a name must not point to less than all of it after a power failure.
func (in *incoming) settle() error {
	if err := in.file.Chmod(in.meta.mode); err != nil {
		return err
	}
	if err := in.file.Sync(); err != nil {
		return err
	}
	err := in.file.Close()
	in.file = nil
	if err != nil {
		return err
	}
	return in.root.Chtimes(in.temp, time.Time{}, in.meta.mtime)
}

// discard removes what is not complete. It may be called often.
func (in *incoming) discard() {
	if in.file != nil {
		_ = in.file.Close() // nobody wants what was written
		in.file = nil
	}
	if in.temp != "" {
		_ = in.root.Remove(in.temp) // the name is reserved: it harms nobody if it stays
		in.temps.remove(in.temp)
		in.temp = ""
	}
}

// receipt is the answer to what take has completed.
func (in *incoming) receipt() *circuit.Fragment {
	return &circuit.Fragment{FragOp: opDone, FragSubject: in.meta.path, Args: in.sum.args()}
}
