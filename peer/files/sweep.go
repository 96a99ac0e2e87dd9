package files

import (
	"context"
	"crypto/rand"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"
)

// staleAfter is how old a temporary file is that nobody is going to complete,
// and how often they are looked for.
const staleAfter = 24 * time.Hour

// tempName makes a name for a temporary file. It tells when it was made: the
// modification time is set to the sender's before the file gets its name.
func tempName(now time.Time) string {
	return tempPrefix + strconv.FormatInt(now.Unix(), 36) + "-" + rand.Text() + tempSuffix
}

// tempTime is when a temporary file was made. A name that only looks like one
// may be a user's file.
func tempTime(name string) (time.Time, bool) {
	text, ok1 := strings.CutPrefix(name, tempPrefix)
	text, ok2 := strings.CutSuffix(text, tempSuffix)
	text, random, ok3 := strings.Cut(text, "-")
	seconds, err := strconv.ParseInt(text, 36, 64)
	if !ok1 || !ok2 || !ok3 || len(random) != len(rand.Text()) || err != nil {
		return time.Time{}, false
	}
	return time.Unix(seconds, 0), true
}

// temps knows the temporary files that the peers of one service are writing.
type temps struct {
	mu    sync.Mutex // never held while anything waits
	live  map[string]struct{}
	swept time.Time
}

func (t *temps) add(name string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.live[filepath.ToSlash(name)] = struct{}{}
}

func (t *temps) remove(name string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.live, filepath.ToSlash(name))
}

func (t *temps) has(name string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	_, ok := t.live[name]
	return ok
}

// due tells, once each staleAfter, that it is time to sweep.
func (t *temps) due(now time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.swept.IsZero() && now.Sub(t.swept) < staleAfter {
		return false
	}
	t.swept = now
	return true
}

// sweep removes what a service that was killed has left half received below
// root, and returns how many files that were. Another process may receive into
// the same directory: what was written to not long ago stays.
func (t *temps) sweep(ctx context.Context, root *os.Root, now time.Time) (removed int) {
	old := func(when time.Time) bool { return now.Sub(when) > staleAfter }
	_ = fs.WalkDir(root.FS(), ".", func(p string, d fs.DirEntry, err error) error {
		if ctx.Err() != nil {
			return fs.SkipAll
		}
		if err != nil {
			return skipDir(d) // what cannot be read is no worse than before
		}
		made, ok := tempTime(path.Base(p))
		if !ok || !old(made) || !d.Type().IsRegular() || t.has(p) {
			return nil
		}
		if info, err := d.Info(); err == nil && old(info.ModTime()) && root.Remove(p) == nil {
			removed++
		}
		return nil
	})
	return removed
}
