// Package attacktest attacks a node. Its tests run a real node in a process of
// its own, with small bounds and a known budget of memory, an honest pair that
// measures its round trips through that node all the time, and beside them a
// peer written on raw quic-go that breaks the protocol in every way that
// docs/wire.md lets one think of.
//
// Each case is one subtest of TestAttacks. After each of them the node has to
// be the same process and serve newcomers, must not have grown beyond its
// budget and 64 MiB, must have logged little, and the honest pair must have
// lost nothing and not have been held up. TestNothingIsGotByClaimingIt tries to
// start, open, speak as and take up what belongs to others, in ways that are
// drawn from -attack.seed, and TestCircuitsTakeNoFiles has a node hold circuits
// by the thousand with few file descriptors.
//
// The cases run with small volumes among all other tests. The volumes that the
// figures in docs/security.md are about, and those figures as a table:
//
//	go test -count=1 -timeout 30m ./cmd/internal/attacktest -attack.full -attack.out table.md
package attacktest
