package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"ckt.local/circuit"
	"ckt.local/peer/files"
	"ckt.local/transport"
	"ckt.local/transport/identity"
	"ckt.local/transport/trust"
)

func TestPlainQuotesWhatDoesNotPrint(t *testing.T) {
	for s, want := range map[string]string{
		"":                    "",
		"a b/c.txt":           "a b/c.txt",
		"Grüße, 文件, �":        "Grüße, 文件, �",
		`back\slash "quoted"`: `back\slash "quoted"`,
		"\x1b[2J":             `"\x1b[2J"`,
		"two\nlines":          `"two\nlines"`,
		"a\tcolumn":           `"a\tcolumn"`,
		"no UTF-8 \xff":       `"no UTF-8 \xff"`,
		"\u202egpj.exe":       `"\u202egpj.exe"`,
		"\u009b2J":            `"\u009b2J"`,
	} {
		if got := plain(s); got != want {
			t.Errorf("%q becomes %s, want %s", s, got, want)
		}
	}
}

func TestNumbersAndAges(t *testing.T) {
	for got, want := range map[string]string{
		number(0, "file"):        "0 files",
		number(1, "directory"):   "1 directory",
		number(2, "directory"):   "2 directories",
		number(2, "key"):         "2 keys",
		number(int64(1), "byte"): "1 byte",
		short(-1):                "0s",
		short(59.9):              "59s",
		short(184):               "3m04s",
		short(5*3600 + 7*60):     "5h07m",
		short(123 * 3600):        "5d3h",
	} {
		if got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

// onPaper is an app whose outputs are files that can be read back.
func onPaper(t *testing.T) (a *app, printed func() string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "paper")
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return &app{stdout: f, stderr: f}, func() string {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
}

// foreign is what a terminal must not get as it is.
const foreign = "x\x1b[31m\u202e\nhint: rm -rf /"

// wantQuoted wants everything foreign that is printed to be quoted.
func wantQuoted(t *testing.T, cases map[string]func(*app) error) {
	t.Helper()
	for why, do := range cases {
		a, printed := onPaper(t)
		a.running = true
		if err := do(a); err != nil {
			t.Errorf("%s: %v", why, err)
		}
		got := printed()
		if got == "" || strings.ContainsAny(got, "\x1b\u202e") || strings.Contains(got, "\nhint: rm") || !strings.Contains(got, `\x1b[31m`) {
			t.Errorf("%s:\n%q", why, got)
		}
	}
}

// Whatever another node says and whatever a file is called: a terminal gets
// neither control characters nor lines that peerctl has not begun.
func TestForeignTextIsQuoted(t *testing.T) {
	bad := &files.FileError{Path: foreign, Err: &files.RemoteError{Code: foreign, Reason: foreign}}
	wantQuoted(t, map[string]func(*app) error{
		"the reason of a close": func(a *app) error {
			a.exit(t.Context(), &circuit.RemoteError{Reason: foreign})
			return nil
		},
		"a refusal": func(a *app) error {
			a.exit(t.Context(), &circuit.RefusedError{Service: foreign, Reason: foreign})
			return nil
		},
		"a file's name in an error": func(a *app) error {
			_, err := os.Open(foreign)
			a.exit(t.Context(), err)
			return nil
		},
		"an argument in a hint": func(a *app) error {
			a.exit(t.Context(), advise(errors.New("no"), "peerctl ls %s", foreign))
			return nil
		},
		"what was not pushed": func(a *app) error {
			_ = a.reportPush(files.Report{Skipped: []string{foreign}, Failed: []*files.FileError{bad}}, nil)
			return nil
		},
		"a listing": func(a *app) error {
			return a.print(lsResult{
				Addr:     foreign,
				Peers:    []lsPeer{{Service: foreign, PeerID: foreign}},
				Links:    []lsLink{{Addr: foreign}},
				Circuits: []lsCircuit{{CircuitID: foreign, Service: foreign, PeerID: foreign, RemoteService: foreign}},
			})
		},
		"a difference": func(a *app) error {
			same := files.Comparison{Different: []files.Difference{{Path: "y" + foreign, What: foreign}}}
			return a.print(demoResult{Different: differences(files.Report{Failed: []*files.FileError{bad}}, same)})
		},
	})
}

func TestForeignTextAboutTrustIsQuoted(t *testing.T) {
	wantQuoted(t, map[string]func(*app) error{
		"a known key": func(a *app) error {
			return a.print(knownResult{Known: []knownLine{{Addrs: []string{foreign}, Comment: foreign}}})
		},
		"a limit": func(a *app) error { return a.print(limitsResult{Limits: []limitRow{{What: foreign}}}) },
		"what the other side says of a pre-shared key": func(a *app) error {
			a.trust.psk = "lock"
			a.exit(t.Context(), &transport.RemoteError{Code: transport.CodePSK, Reason: foreign})
			return nil
		},
		"the reason of a limit": func(a *app) error {
			a.exit(t.Context(), &transport.RemoteError{Code: transport.CodeLimit, Reason: foreign})
			return nil
		},
		"the address of a changed key": func(a *app) error {
			a.exit(t.Context(), &trust.ChangedKeyError{Addr: foreign, Path: foreign})
			return nil
		},
		"a list of keys that is not usable": func(a *app) error {
			a.exit(t.Context(), &trust.RevokedError{Path: foreign, Err: errors.New(foreign)})
			return nil
		},
		"a file's name in a result": func(a *app) error {
			results := []result{
				authorizeResult{rights: rights{From: []string{"10.*"}}, File: foreign}, deauthorizeResult{File: foreign}, revokeResult{File: foreign}, rotateResult{File: foreign},
				pskResult{File: foreign}, knownChange{Addr: foreign, File: foreign}, knownChange{ID: "y", Addr: foreign, File: foreign},
			}
			for _, r := range results {
				if err := a.print(r); err != nil {
					return err
				}
			}
			return nil
		},
	})
}

func TestDifferencesAreListedOnce(t *testing.T) {
	report := files.Report{Failed: []*files.FileError{{Path: "b", Err: files.ErrChanged}}}
	same := files.Comparison{Different: []files.Difference{{Path: "c", What: "has different contents"}, {Path: "b", What: "is only in x"}}}
	got := strings.Join(differences(report, same), "\n")
	if want := "b: files: changed while it was read\nc: has different contents"; got != want {
		t.Errorf("got %s", got)
	}
}

func TestHintsOfRefusals(t *testing.T) {
	for code, want := range map[circuit.RefuseCode]string{
		circuit.RefusedLimit:          "stop-remote-peer",
		circuit.RefusedBusy:           "later",
		circuit.RefusedUnknownService: "echo and files",
	} {
		a := &app{service: "other", addr: "node:1"}
		if v := a.judge(&circuit.RefusedError{Code: code}); v.Exit != exitRefused || !strings.Contains(v.Hint, want) {
			t.Errorf("%v: %+v", code, v)
		}
	}
}

func TestRestartIsNotTakenForALoss(t *testing.T) {
	for _, c := range []struct {
		named   bool
		unacked int
		want    verdict
	}{
		{false, 0, verdict{
			Message: "the node at node:1 has restarted",
			Hint:    "run this again from the beginning",
		}},
		{true, 3, verdict{
			Message: "the node at node:1 has restarted; of what was sent, 3 fragments had not been acknowledged",
			Hint:    "run this again from the beginning, with a new peer: peerctl start-remote-peer files ckt://ID@node:1",
		}},
	} {
		a := &app{service: "files", addr: "ckt://ID@node:1", host: "node:1", named: c.named}
		c.want.Code, c.want.Exit, c.want.Unacked = "restarted", exitUnreachable, &c.unacked
		got := a.judge(fmt.Errorf("%w", &circuit.LostError{Unacked: c.unacked, Cause: circuit.ErrPeerRestarted}))
		if !reflect.DeepEqual(got, c.want) {
			t.Errorf("got %+v, want %+v", got, c.want)
		}
	}
}

// Whatever the last try to connect has met, the circuit was lost.
func TestVerdictOfALostCircuit(t *testing.T) {
	for _, c := range []struct {
		cause error
		hint  string
	}{
		{transport.ErrLost, "peerctl ping ckt://ID@node:1 tells"},
		{&transport.RemoteError{Code: transport.CodeClosed}, "start it"},
		{errors.Join(transport.ErrLost, &transport.RemoteError{Code: transport.CodeRefused}), "peerctl authorize"},
		{errors.Join(transport.ErrLost, &transport.WrongKeyError{Addr: "node:1"}), "ping"},
		{errors.New("the other side has given it up"), "from the beginning"},
	} {
		a := &app{addr: "ckt://ID@node:1", host: "node:1"}
		got := a.judge(fmt.Errorf("%w", &circuit.LostError{Unacked: 1, Cause: c.cause}))
		if got.Code != "lost" || got.Exit != exitUnreachable || got.Unacked == nil || *got.Unacked != 1 ||
			!strings.HasPrefix(got.Message, "the connection to node:1 is lost (") ||
			!strings.HasSuffix(got.Message, "; of what was sent, 1 fragment had not been acknowledged") ||
			!strings.Contains(got.Hint, c.hint) {
			t.Errorf("%v: %+v", c.cause, got)
		}
	}
}

// The receiver's words on failures are in the report once, whatever else
// ended the push, and success is never claimed.
func TestFailedPushPrintsNoResult(t *testing.T) {
	for why, err := range map[string]error{"a file failed": nil, "it was stopped": files.ErrStalled} {
		a, printed := onPaper(t)
		got := a.reportPush(files.Report{Files: 2, Failed: []*files.FileError{{Path: "b", Err: files.ErrChanged}}}, err)
		if got == nil || strings.Contains(printed(), "2 files") || strings.Count(printed(), "b: ") != 1 {
			t.Errorf("%s: %v\n%s", why, got, printed())
		}
	}
	a, printed := onPaper(t)
	a.asJSON = true
	if err := a.reportPush(files.Report{}, files.ErrStalled); err == nil || strings.Contains(printed(), "files") {
		t.Errorf("nothing was done: %v\n%s", err, printed())
	}
}

// What has to do with trust and limits is told from one another by code and
// exit, and always with what to do.
func TestVerdictsOfAHostileWorld(t *testing.T) {
	id, other := identity.NodeID{1}, identity.NodeID{2}
	unauthorized := func(err error) error {
		return &transport.UnauthorizedError{Addr: "192.0.2.1:1", Key: id.Key(), Err: err}
	}
	for _, c := range []struct {
		err  error
		code string
		exit int
		says string // in message or hint
	}{
		{unauthorized(&newKeyError{addr: "node:1", id: id}), "unknown-key", exitRefused, "peerctl known add node:1 " + id.String()},
		{unauthorized(&trust.RevokedError{ID: id, Path: "p", Line: 7}), "revoked", exitRefused, "is revoked here (p:7)"},
		{&trust.RevokedError{ID: other, Path: "p", Line: 7}, "revoked", exitRefused, "the key of this node"},
		{unauthorized(&trust.RevokedError{ID: id, Path: "p", Err: errors.New("torn")}), "failed", exitFailed, "mend p"},
		{unauthorized(errors.New("not listed")), "unauthorized", exitRefused, "peerctl known add node:1 " + id.String()},
		{&trust.ChangedKeyError{Addr: "node:1", Known: other, Got: id, Path: "p", Line: 7}, "key-changed", exitRefused, "peerctl known forget node:1"},
		{&transport.RemoteError{Code: transport.CodePSK}, "psk", exitRefused, "--psk FILE"},
		{&transport.RemoteError{Code: transport.CodeLimit}, "limit", exitRefused, "--limits"},
		{&transport.RemoteError{Code: transport.CodeLimit, Limit: transport.RemoteLimit("connections of one node", 64)},
			"limit", exitRefused, "a limit of the node at node:1 is reached: 64 connections of one node"},
		{&circuit.RefusedError{Code: circuit.RefusedLimit, Limit: transport.RemoteLimit("started peers of one node", 2)},
			"limit", exitRefused, "stop-remote-peer"},
		{&transport.LimitError{What: "circuits", Limit: 3}, "limit", exitFailed, "a limit of this node is reached: 3 circuits"},
		{&transport.LimitError{What: "payload bytes", Size: 9, Limit: 3, Remote: true}, "limit", exitRefused, "payload bytes of 9 is over the limit of the node at node:1, which is 3"},
	} {
		a := &app{addr: "node:1", self: other}
		v := a.judge(fmt.Errorf("%w", c.err))
		if v.Code != c.code || v.Exit != c.exit || v.Hint == "" || !strings.Contains(v.Message+"\n"+v.Hint, c.says) {
			t.Errorf("%v: %+v, want %s, %d, %q", c.err, v, c.code, c.exit, c.says)
		}
	}
	a := &app{addr: "ckt://ID@node:1", trust: trustFiles{psk: "lock"}}
	if v := a.judge(unauthorized(errors.New("no proof"))); v.Code != "psk" || v.Exit != exitRefused || !strings.Contains(v.Message, "lock") {
		t.Errorf("a welcome without a proof: %+v", v)
	}
}
