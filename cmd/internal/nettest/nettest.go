// Package nettest gives tests real networks to break: hosts in network
// namespaces of their own, joined by a cable whose addresses, losses and speed
// the test sets while it runs, and for machines where that is not allowed a
// UDP relay on the loopback address that drops and delays.
//
// It speaks netlink itself, so that it needs nothing but a Linux kernel and
// the right to make namespaces.
package nettest
