package identity

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"golang.org/x/crypto/ssh"
)

func parse(t testing.TB, text string) ([]Entry, []*LineError) {
	t.Helper()
	entries, bad, err := ParseAuthorizedPeers(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	return entries, bad
}

func TestParseAuthorizedPeers(t *testing.T) {
	id := testKey(t, 1).ID()
	key := id.PublicLine("")
	utc := func(y int, m time.Month, d, h, min, s int) time.Time {
		return time.Date(y, m, d, h, min, s, 0, time.UTC)
	}
	for name, c := range map[string]struct {
		line string
		want Entry
	}{
		"bare":        {key, Entry{}},
		"comment":     {key + " me at  home ", Entry{Comment: "me at  home"}},
		"blanks":      {" \t" + key + "\t c", Entry{Comment: "c"}},
		"CRLF":        {key + " c\r", Entry{Comment: "c"}},
		"services":    {`services="echo,my.files-2_x" ` + key, Entry{Services: []string{"echo", "my.files-2_x"}}},
		"from":        {`from="10.0.0.0/8,!10.1.*,::1" ` + key, Entry{From: []string{"10.0.0.0/8", "!10.1.*", "::1"}}},
		"hostname":    {`from="host.example.com" ` + key, Entry{From: []string{"host.example.com"}}},
		"day":         {`expiry-time="20300102Z" ` + key, Entry{Expires: utc(2030, 1, 2, 0, 0, 0)}},
		"minutes":     {`expiry-time="203001021504Z" ` + key, Entry{Expires: utc(2030, 1, 2, 15, 4, 0)}},
		"seconds":     {`expiry-time="20300102150405Z" ` + key, Entry{Expires: utc(2030, 1, 2, 15, 4, 5)}},
		"local time":  {`expiry-time="203001021504" ` + key, Entry{Expires: time.Date(2030, 1, 2, 15, 4, 0, 0, time.Local).UTC()}},
		"start":       {`start="echo,files" ` + key, Entry{Start: []string{"echo", "files"}}},
		"start none":  {`start="" ` + key, Entry{Start: []string{}}},
		"start first": {`start="b",services="a,b" ` + key, Entry{Services: []string{"a", "b"}, Start: []string{"b"}}},
		"circuits":    {`max-circuits="1" ` + key, Entry{MaxCircuits: 1}},
		"rate":        {`rate="1048576" ` + key, Entry{Rate: 1 << 20}},
		"all options": {
			`rate="5",max-circuits="10",services="a",start="a",from="::1",expiry-time="20300102Z" ` + key,
			Entry{Services: []string{"a"}, Start: []string{"a"}, From: []string{"::1"}, Expires: utc(2030, 1, 2, 0, 0, 0), MaxCircuits: 10, Rate: 5},
		},
	} {
		c.want.ID, c.want.Line = id, 3
		entries, bad := parse(t, "# a comment\n\n"+c.line+"\n")
		if len(bad) != 0 || len(entries) != 1 || !reflect.DeepEqual(entries[0], c.want) {
			t.Errorf("%s: got %+v, %v", name, entries, bad)
			continue
		}
		again, bad := parse(t, "\n\n"+entries[0].String())
		if len(bad) != 0 || !reflect.DeepEqual(again, entries) {
			t.Errorf("%s: written as %q, read as %+v, %v", name, entries[0], again, bad)
		}
	}
}

func TestBadLinesAllowNobody(t *testing.T) {
	key := testKey(t, 1).ID().PublicLine("")
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	rsaPub, _ := ssh.NewPublicKey(rsaKey.Public())
	for name, line := range map[string]string{
		"other key type":         string(bytes.TrimSpace(ssh.MarshalAuthorizedKey(rsaPub))),
		"other type with option": `services="a" ` + string(bytes.TrimSpace(ssh.MarshalAuthorizedKey(rsaPub))),
		"certificate type":       strings.Replace(key, "ssh-ed25519", "ssh-ed25519-cert-v01@openssh.com", 1),
		"type is a lie":          strings.Replace(string(bytes.TrimSpace(ssh.MarshalAuthorizedKey(rsaPub))), "ssh-rsa", "ssh-ed25519", 1),
		"zero key":               NodeID{}.PublicLine(""),
		"no key":                 `services="a"`,
		"no key but a comment":   `services="a" hello`,
		"cut key":                key[:60],
		"stray base64 bits":      key[:len(key)-1] + "=",
		"text":                   "hello world",
		"unknown option":         `command="ls" ` + key,
		"unknown flag":           `restrict ` + key,
		"option in capitals":     `Services="a" ` + key,
		"known and unknown":      `services="a",cert-authority ` + key,
		"services twice":         `services="a",services="b" ` + key,
		"from twice":             `from="::1",from="*" ` + key,
		"expiry twice":           `expiry-time="20300101",expiry-time="20400101" ` + key,
		"no services":            `services="" ` + key,
		"empty service":          `services="a,,b" ` + key,
		"trailing comma":         `services="a," ` + key,
		"blank in services":      `services="a, b" ` + key,
		"star service":           `services="*" ` + key,
		"service name too long":  `services="` + strings.Repeat("a", MaxServiceName+1) + `" ` + key,
		"value not quoted":       `services=a ` + key,
		"no value":               `services ` + key,
		"quote not closed":       `services="a ` + key,
		"escaped last quote":     `services="a\" ` + key,
		"text after the quote":   `services="a"b ` + key,
		"comma after options":    `services="a", ` + key,
		"comma before options":   `,services="a" ` + key,
		"no from":                `from="" ` + key,
		"empty pattern":          `from="::1,," ` + key,
		"lone negation":          `from="*,!" ` + key,
		"double negation":        `from="*,!!::1" ` + key,
		"mask too long":          `from="10.0.0.0/33" ` + key,
		"bits beyond the mask":   `from="10.0.0.1/8" ` + key,
		"mapped block too wide":  `from="::ffff:0:0/95" ` + key,
		"mask of a name":         `from="host/24" ` + key,
		"zone":                   `from="fe80::1%eth0" ` + key,
		"negated name":           `from="*,!host.example.com" ` + key,
		"negated name with star": `from="*,!*.example.com" ` + key,
		"negated misspelling":    `from="*,!10.0.0.256" ` + key,
		"quote in a pattern":     `from="a\"b" ` + key,
		"no time":                `expiry-time="" ` + key,
		"half a time":            `expiry-time="2030010" ` + key,
		"no such day":            `expiry-time="20300230" ` + key,
		"fraction":               `expiry-time="20300101000000.5" ` + key,
		"sign":                   `expiry-time="+0300101" ` + key,
		"long ago":               `expiry-time="19691231" ` + key,
		"other zone":             `expiry-time="20300101UTC+1" ` + key,
		"small z":                `expiry-time="20300101z" ` + key,
		"control character":      key + " \x1b[2J",
		"NUL":                    key + "\x00",
		"carriage return inside": key + "\rx",
		"line too long":          key + " " + strings.Repeat("c", maxPeersLine),
	} {
		wantBadLine(t, name, line)
	}
}

// wantBadLine checks that a line is reported, and the next one good.
func wantBadLine(t *testing.T, name, line string) {
	t.Helper()
	good := testKey(t, 2).ID()
	entries, bad := parse(t, line+"\n"+good.PublicLine("")+"\n")
	if len(entries) != 1 || entries[0].ID != good || entries[0].Line != 2 {
		t.Errorf("%s: entries %+v", name, entries)
	}
	if len(bad) != 1 || bad[0].Line != 1 || bad[0].Err == nil || len(bad[0].Error()) > 400 {
		t.Errorf("%s: reported as %v", name, bad)
	}
}

func TestBadStartsAndCounts(t *testing.T) {
	key := testKey(t, 1).ID().PublicLine("")
	for name, line := range map[string]string{
		"start twice":           `start="",start="a" ` + key,
		"empty start":           `start="a,,b" ` + key,
		"star in start":         `start="*" ` + key,
		"start of another's":    `services="a",start="a,b" ` + key,
		"the same in turn":      `start="a,b",services="a" ` + key,
		"start without value":   `start ` + key,
		"no circuits":           `max-circuits="0" ` + key,
		"negative circuits":     `max-circuits="-1" ` + key,
		"no number of circuits": `max-circuits="" ` + key,
		"too many circuits":     `max-circuits="1048577" ` + key,
		"circuits twice":        `max-circuits="1",max-circuits="1" ` + key,
		"leading zero":          `rate="01" ` + key,
		"plus":                  `rate="+1" ` + key,
		"underscore":            `rate="1_0" ` + key,
		"blank in number":       `rate=" 1" ` + key,
		"fraction of a rate":    `rate="0.5" ` + key,
		"overflow":              `rate="18446744073709551617" ` + key,
		"rate twice":            `rate="1",rate="2" ` + key,
		"rate not quoted":       `rate=1 ` + key,
	} {
		wantBadLine(t, name, line)
	}
}

func TestParseAuthorizedPeersIsBounded(t *testing.T) {
	key := testKey(t, 1).ID().PublicLine("") + "\n"
	for name, text := range map[string]string{
		"bytes":     strings.Repeat("#", maxPeersFile+1),
		"entries":   strings.Repeat(key, maxEntries+1),
		"bad lines": key + strings.Repeat("x\n", maxBadLines+1),
	} {
		entries, _, err := ParseAuthorizedPeers(strings.NewReader(text))
		if err == nil || len(entries) != 0 {
			t.Errorf("%s: %d entries, %v", name, len(entries), err)
		}
	}
	if _, _, err := ParseAuthorizedPeers(iotest.ErrReader(iotest.ErrTimeout)); err == nil {
		t.Error("an error of the reader is lost")
	}
}

func TestFromPatterns(t *testing.T) {
	for _, c := range []struct {
		list      string
		yes, no   string
		otherwise string
	}{
		{"10.1.2.3", "10.1.2.3 ::ffff:10.1.2.3", "10.1.2.4 ::1", "one address, also when it comes mapped"},
		{"::ffff:10.1.2.3", "10.1.2.3", "10.1.2.4", "a mapped pattern is an IPv4 pattern"},
		{"10.0.0.0/8,!10.9.0.0/16", "10.1.1.1", "10.9.0.1 11.0.0.1", "a negated block denies"},
		{"!10.9.0.0/16,10.0.0.0/8", "10.1.1.1", "10.9.0.1", "wherever in the list it stands"},
		{"!10.9.0.1", "", "10.9.0.1 10.9.0.2", "a negation alone lets nobody in"},
		{"::ffff:10.0.0.0/104", "10.1.1.1", "11.1.1.1", "a mapped block is an IPv4 block"},
		{"0.0.0.0/0", "1.2.3.4", "::1", "all of IPv4 is not IPv6"},
		{"*", "1.2.3.4 ::1 fe80::1%eth0", "", "a star is everybody whose address is known"},
		{"192.168.1.?", "192.168.1.7", "192.168.1.77", "? is one character"},
		{"192.168.*.1*", "192.168.3.1 192.168.30.17", "192.168.3.2", "* is any number of them"},
		{"2001:DB8::*", "2001:db8::5", "2001:db9::5", "capitals do not matter"},
		{"fe80::1", "fe80::1%eth0", "fe80::2%eth0", "the zone does not matter"},
		{"localhost", "", "127.0.0.1 ::1", "names are not looked up"},
	} {
		patterns, err := parsePatterns(strings.Split(c.list, ","))
		if err != nil {
			t.Errorf("%s: %v", c.list, err)
			continue
		}
		for a := range strings.FieldsSeq(c.yes) {
			if !matchAddr(patterns, netip.MustParseAddr(a)) {
				t.Errorf("%s: %s does not match %s", c.otherwise, a, c.list)
			}
		}
		for a := range strings.FieldsSeq(c.no) {
			if matchAddr(patterns, netip.MustParseAddr(a)) {
				t.Errorf("%s: %s matches %s", c.otherwise, a, c.list)
			}
		}
		if matchAddr(patterns, netip.Addr{}) {
			t.Errorf("%s: an unknown address matches", c.list)
		}
	}
}

func TestGlobTakesNoExponentialTime(t *testing.T) {
	if matchGlob(strings.Repeat("*1", 4000)+"x", strings.Repeat("1", 39)) {
		t.Error("a text without x matches")
	}
}

func TestValidServiceName(t *testing.T) {
	for _, s := range []string{"a", "Z9", "0", "a.b_c-d", strings.Repeat("x", MaxServiceName)} {
		if err := ValidServiceName(s); err != nil {
			t.Error(err)
		}
	}
	for _, s := range []string{"", ".a", "-a", "_a", "a b", "a/b", "a,b", `a"`, "é", "a\x00", strings.Repeat("x", MaxServiceName+1)} {
		if err := ValidServiceName(s); !isType[*ServiceNameError](err) {
			t.Errorf("%q: %v", s, err)
		}
	}
}

func FuzzAuthorizedPeers(f *testing.F) {
	f.Fuzz(func(t *testing.T, text string) {
		entries, bad, err := ParseAuthorizedPeers(strings.NewReader(text))
		if err != nil && len(entries) != 0 {
			t.Fatal("entries beside an error")
		}
		if len(entries)+len(bad) > strings.Count(text, "\n")+1 {
			t.Fatalf("%d entries and %d bad lines from %q", len(entries), len(bad), text)
		}
		lines := strings.SplitAfter(text, "\n")
		for _, e := range entries {
			if e.MaxCircuits < 0 || e.MaxCircuits > maxCount || e.Rate < 0 || e.Rate > maxCount || e.consistent() != nil {
				t.Fatalf("an entry beyond its bounds: %+v", e)
			}
			if e.ID.IsZero() || slices.ContainsFunc(bad, func(b *LineError) bool { return b.Line == e.Line }) {
				t.Fatalf("an entry from a bad line: %+v", e)
			}
			// Written out an expiry time is the longest of its forms.
			if len(lines[e.Line-1]) > maxPeersLine-16 {
				continue
			}
			// The zero value of Line is not that of a line that was read.
			again, bad := parse(t, strings.Repeat("\n", e.Line-1)+e.String())
			if len(bad) != 0 || len(again) != 1 || !reflect.DeepEqual(again[0], e) || again[0].String() != e.String() {
				t.Fatalf("%+v is written as %q and read as %+v, %v", e, e, again, bad)
			}
		}
	})
}
