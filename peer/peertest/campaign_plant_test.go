//go:build plant

package peertest_test

import (
	"strings"
	"testing"

	"ckt.local/circuit"
)

func supersede(c *circuit.Circuit) bool {
	c.Supersede()
	c.OpenAgain()
	return true
}

// TestCampaignFindsPlantedBugs runs the campaign on code with a bug in it until
// a seed fails. It is a test of the campaign: -sim.seeds says how many seeds
// each bug may take. Without a bug the same build must pass.
func TestCampaignFindsPlantedBugs(t *testing.T) {
	for _, bug := range []string{
		"no-replay", "ack-on-write", "ack-before-delivery", "no-dedup",
		"acceptor-never-redials", "credit-ignored", "generation-ignored", "fin-without-last",
	} {
		c := newCampaign(t)
		c.env = []string{"CKT_PLANT=" + bug}
		c.untilFailure = true
		outs := c.run(seedsOfFlags())
		if c.sum.Failed == 0 {
			t.Errorf("%s: not found by %d seeds", bug, c.sum.Seeds)
			continue
		}
		for _, o := range outs {
			if len(o.Errors) > 0 {
				t.Logf("%s: found after %d seeds, by seed %d: %s", bug, c.sum.Seeds, o.Seed, firstLine(o.Errors[0]))
				break
			}
		}
	}
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(s, "\n")
	return line
}
