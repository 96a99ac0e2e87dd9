//go:build !(darwin || dragonfly || freebsd || linux || netbsd || openbsd)

package identity

import "os"

// Where there are no such locks, two processes that change a file in the same
// instant may undo one another's change.
func lockFile(*os.File) error { return nil }
