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

// Whatever another node says and whatever a file is called: a terminal gets
// neither control characters nor lines that peerctl has not begun.
func TestForeignTextIsQuoted(t *testing.T) {
	const foreign = "x\x1b[31m\u202e\nhint: rm -rf /"
	bad := &files.FileError{Path: foreign, Err: &files.RemoteError{Code: foreign, Reason: foreign}}
	for why, do := range map[string]func(*app) error{
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
	} {
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
