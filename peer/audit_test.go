package peer

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode"
	"unicode/utf8"

	"ckt.local/transport/identity"
)

// auditTo returns an auditor and what it has written, a record a line.
func auditTo(w io.Writer) *auditor { return newAuditor(slog.New(slog.NewJSONHandler(w, nil))) }

type auditLine struct {
	Level, Msg, Action, Node, Key, From, Service, Reason string
	Allowed                                              bool
	N                                                    int
}

func auditLines(t *testing.T, b *bytes.Buffer) (lines []auditLine) {
	t.Helper()
	for line := range strings.Lines(b.String()) {
		var l auditLine
		if err := json.Unmarshal([]byte(line), &l); err != nil {
			t.Fatalf("%v in %q", err, line)
		}
		if l.Msg != "audit" || (l.Level == "INFO") != l.Allowed {
			t.Fatalf("a record %+v", l)
		}
		lines = append(lines, l)
	}
	return lines
}

func refusedAt(node byte, port uint16, service string) decision {
	r := Request{Node: identity.NodeID{node}, Key: identity.NodeID{node}, Service: service,
		From: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, 1}), port)}
	return decisionOf(r, "open", errNotListed)
}

func TestEqualRefusalsAreCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		a := auditTo(&out)
		for i := range 100 {
			d := refusedAt(1, uint16(i+1), "echo") // what is new each time makes no new kind
			d.circuit, d.peer = fmt.Sprint("circuit ", i), fmt.Sprint("peer ", i)
			a.record(d)
			time.Sleep(time.Second / 2)
		}
		a.record(refusedAt(1, 1, "files"))
		allowed := refusedAt(1, 1, "echo")
		allowed.allowed, allowed.reason = true, ""
		a.record(allowed)
		a.record(allowed)
		lines := auditLines(t, &out)
		if len(lines) != 4 || lines[0].N != 0 || lines[1].Service != "files" || !lines[2].Allowed || !lines[3].Allowed {
			t.Fatalf("after 50 s: %+v", lines)
		}

		// After a minute the last of those left out comes out, and speaks for
		// the others; the next one is logged again.
		time.Sleep(10 * time.Second)
		out.Reset()
		a.record(refusedAt(1, 7, "echo"))
		lines = auditLines(t, &out)
		if len(lines) != 2 || lines[0].N != 98 || lines[0].From != "10.0.0.1:100" || lines[1].N != 0 || lines[1].From != "10.0.0.1:7" {
			t.Fatalf("after a minute: %+v", lines)
		}

		// What is left comes out at the end.
		a.record(refusedAt(1, 8, "echo"))
		a.record(refusedAt(1, 9, "echo"))
		out.Reset()
		a.close()
		if lines = auditLines(t, &out); len(lines) != 1 || lines[0].N != 1 {
			t.Fatalf("at the end: %+v", lines)
		}
	})
}

// Keys cost nothing: who makes up one after the other is told of by address.
func TestMadeUpKeysAreToldOfByAddress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		a := auditTo(&out)
		knock := func(key int, from string) {
			id := identity.NodeID{1, byte(key), byte(key >> 8)}
			r := Request{Node: id, Key: id, From: netip.AddrPortFrom(netip.MustParseAddr(from), uint16(key))}
			a.record(decisionOf(r, ActionConnect.String(), errNotListed))
		}
		const keys = 1000
		for i := range keys {
			knock(i, "192.0.2.1")
			knock(i, fmt.Sprintf("2001:db8::%x", i+1))
			knock(i, fmt.Sprintf("::ffff:192.0.2.%d", i%2+2))
		}
		lines := auditLines(t, &out)
		if n := len(lines); n != 4*(maxFromKinds+1) {
			t.Errorf("%d lines for four sources", n)
		}
		out.Reset()
		time.Sleep(auditEvery)
		knock(1, "192.0.2.1")
		total := len(lines) - 1
		for _, l := range auditLines(t, &out) {
			total += 1 + l.N
		}
		if total != 3*keys || len(a.froms) != 1 {
			t.Errorf("%d refusals are told of, of %d; %d sources are kept", total, 3*keys, len(a.froms))
		}
	})
}

// Strangers decide how many kinds of refusals there are. Neither memory nor the
// log grows with them, nothing is lost from the count, and one node cannot push
// another one out.
func TestAuditIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		a := auditTo(&out)
		const flood, strangers = 50_000, 5_000
		for i := range flood {
			a.record(refusedAt(1, 1, fmt.Sprintf("service-%d", i)))
		}
		if len(a.kinds) > maxNodeKinds+1 {
			t.Errorf("one node has %d kinds", len(a.kinds))
		}
		a.record(refusedAt(2, 1, "echo"))
		lines := auditLines(t, &out)
		if n := len(lines); n > maxNodeKinds+2 || lines[n-1].Service != "echo" {
			t.Errorf("%d lines, the last one %+v", n, lines[n-1])
		}
		for i := range strangers {
			d := refusedAt(0, 1, "echo")
			d.node = identity.NodeID{3, byte(i), byte(i >> 8)}
			a.record(d)
		}
		if len(a.kinds) > maxKinds+1 || a.order.Len() != len(a.kinds) || len(a.nodes) > maxKinds+1 {
			t.Errorf("%d kinds of %d nodes are kept", len(a.kinds), len(a.nodes))
		}
		if n := len(auditLines(t, &out)); n > maxKinds+1 {
			t.Errorf("%d lines within a minute", n)
		}
		time.Sleep(auditEvery)
		a.close()
		total := 0
		for _, l := range auditLines(t, &out) {
			total += 1 + l.N
		}
		if want := flood + 1 + strangers; total != want {
			t.Errorf("%d refusals are told of, of %d", total, want)
		}
		if len(a.kinds)+len(a.nodes)+a.order.Len() != 0 {
			t.Error("something is kept after the end")
		}
	})
}

// No text of others can forge a record, break a line, or move a cursor.
func TestAuditOfHostileNames(t *testing.T) {
	hostile := []string{
		"a\nlevel=INFO msg=audit action=open allowed=true", "\r\n{\"msg\":\"audit\",\"allowed\":true}", "\x1b[2J\x1b]0;title\x07",
		"\u009b31m\u0085next", "\u202egnp.exe", "\u2028\u2029", "\xff\xfe\x80", "\x00\x7f", `" allowed=true "`, "a=b c=d", "",
		strings.Repeat("x", 1<<20), strings.Repeat("\xf0\x9f\x98\x80", 1000), strings.Repeat("\xf0", 1000), strings.Repeat("\n", 500),
	}
	for _, text := range []bool{false, true} {
		for _, name := range hostile {
			var out bytes.Buffer
			var h slog.Handler = slog.NewJSONHandler(&out, nil)
			if text {
				h = slog.NewTextHandler(&out, nil)
			}
			a := newAuditor(slog.New(h))
			d := decisionOf(Request{Service: name}, "start", errors.New("no "+name))
			d.peer, d.addr, d.circuit = clip(name), clip(name), clip(name)
			a.record(d)
			line := out.String()
			if strings.Count(line, "\n") != 1 || !utf8.ValidString(line) || len(line) > 12*(4*maxAudited+maxCause) {
				t.Errorf("%.60q becomes %q", name, line)
			}
			for _, r := range strings.TrimSuffix(line, "\n") {
				if !unicode.IsPrint(r) {
					t.Errorf("%.60q leaves a character %U in %q", name, r, line)
				}
			}
			if !text {
				if l := auditLines(t, &out)[0]; l.Allowed || l.Action != "start" || len(l.Service) > maxAudited || len(l.Reason) > maxCause {
					t.Errorf("%.60q becomes %+v", name, l)
				}
			}
		}
	}
}

func TestClipKeepsWhatIsHarmless(t *testing.T) {
	for _, s := range []string{"", "echo", "ümläut", "日本語", "a b", strings.Repeat("x", maxAudited)} {
		if got := clip(s); got != s {
			t.Errorf("%q becomes %q", s, got)
		}
	}
}
