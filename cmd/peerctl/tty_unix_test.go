//go:build unix

package main

import "syscall"

// detach leaves the terminal that the tests may run on: nothing is to be asked
// there. A process that leads a session has one of its own, and stays.
func detach() { _, _ = syscall.Setsid() }
