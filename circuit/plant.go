package circuit

// A bug is one that can be planted, to see whether the tests find it: see
// docs/reliability.md.
type bug string

const (
	bugNoReplay             bug = "no-replay"
	bugAckOnWrite           bug = "ack-on-write"
	bugAckBeforeDelivery    bug = "ack-before-delivery"
	bugNoDedup              bug = "no-dedup"
	bugAcceptorNeverRedials bug = "acceptor-never-redials"
	bugCreditIgnored        bug = "credit-ignored"
	bugGenerationIgnored    bug = "generation-ignored"
	bugFinWithoutLast       bug = "fin-without-last"
)
