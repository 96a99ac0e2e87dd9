package couriertest

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"ckt.local/transport/identity"
)

// Patience bounds everything that a test waits for and has no bound of its own.
const Patience = 60 * time.Second

// A Place is where processes run: a host of package nettest, or nil for here.
type Place interface {
	Run(func() error) error
}

// A Seat is what the lives of one courier have in common: its key, its place,
// and from the first life on its port.
type Seat struct {
	t      testing.TB
	name   string
	place  Place
	key    string
	listen string
	life   uint32
}

// NewSeat makes a key. listen is the UDP address of the first life, whose port
// may be 0; all further lives have the port of the first.
func NewSeat(t testing.TB, name string, place Place, listen string) *Seat {
	t.Helper()
	k, err := identity.Generate()
	if err != nil {
		t.Fatal(err)
	}
	s := &Seat{t: t, name: name, place: place, listen: listen, key: filepath.Join(t.TempDir(), name)}
	if err := identity.WriteKeyFile(s.key, k, nil, name); err != nil {
		t.Fatal(err)
	}
	return s
}

// A Process is one life of a courier. Its methods fail the test.
type Process struct {
	URL  string
	Life uint32

	t     testing.TB
	name  string
	cmd   *exec.Cmd
	stdin io.Closer
	order io.Writer
	gone  chan struct{} // closed when all output has been read and the process has ended

	mu     sync.Mutex
	events []Event
	more   chan struct{} // closed at the next event
}

// Start starts the next life with these arguments, and returns when it
// listens. Couriers are started as the program "courier", which is [Main]. It
// ends with the test, which fails if a courier has seen the promise broken.
func (s *Seat) Start(args ...string) *Process {
	s.t.Helper()
	s.life++
	args = append([]string{"-life", fmt.Sprint(s.life), "-key", s.key, "-listen", s.listen}, args...)
	p := &Process{
		Life: s.life, t: s.t, name: fmt.Sprintf("%s, life %d", s.name, s.life),
		cmd: exec.Command("courier", args...), gone: make(chan struct{}), more: make(chan struct{}),
	}
	p.cmd.Env = append(os.Environ(), "GORACE=atexit_sleep_ms=20")
	p.start(s.place)
	p.URL = p.Await("listening", Patience, func(e Event) bool { return e.Kind == Listening }).URL
	_, s.listen, _ = strings.Cut(p.URL, "@")
	return p
}

func (p *Process) start(place Place) {
	p.t.Helper()
	var errors strings.Builder
	p.cmd.Stderr = &errors
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		p.t.Fatal(err)
	}
	stdin, err := p.cmd.StdinPipe()
	if err != nil {
		p.t.Fatal(err)
	}
	p.order, p.stdin = stdin, stdin
	if place == nil {
		err = p.cmd.Start()
	} else {
		p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} // the parent: the thread of the place
		err = place.Run(p.cmd.Start)
	}
	if err != nil {
		p.t.Fatal(err)
	}
	go func() {
		defer close(p.gone)
		p.read(stdout)
		if err := p.cmd.Wait(); errors.Len() > 0 {
			p.t.Errorf("%s: %v\n%s", p.name, err, errors.String())
		}
	}()
	p.t.Cleanup(func() { p.end() })
}

// read takes the events in until the process has closed its output.
func (p *Process) read(out io.Reader) {
	for lines := bufio.NewScanner(out); lines.Scan(); {
		var e Event
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			p.t.Errorf("%s: %v: %s", p.name, err, lines.Bytes())
			continue
		}
		if e.Kind == Wrong {
			p.t.Errorf("%s: %s", p.name, e.Text)
		}
		p.mu.Lock()
		p.events = append(p.events, e)
		close(p.more)
		p.more = make(chan struct{})
		p.mu.Unlock()
	}
}

// end lets the process end by itself, or kills it.
func (p *Process) end() {
	p.stdin.Close()
	_ = p.cmd.Process.Signal(syscall.SIGCONT) // it may have been stopped
	select {
	case <-p.gone:
	case <-time.After(Patience / 2):
		p.t.Errorf("%s does not end", p.name)
		p.Signal(syscall.SIGKILL)
		<-p.gone
	}
	if p.t.Failed() {
		p.dump()
	}
}

// dump logs what has happened, without the many lines of progress.
func (p *Process) dump() {
	var b strings.Builder
	for _, e := range p.Events() {
		if e.Kind != Progress {
			line, _ := json.Marshal(e) // it came as JSON
			fmt.Fprintf(&b, "%s\n", line)
		}
	}
	p.t.Logf("%s:\n%s", p.name, b.String())
}

// Events returns what the process has reported so far.
func (p *Process) Events() []Event {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.events)
}

// Count is how many events of a kind there were.
func (p *Process) Count(kind string) int {
	n := 0
	for _, e := range p.Events() {
		if e.Kind == kind {
			n++
		}
	}
	return n
}

// Await returns the first event, of those before and those to come, that is
// as wanted.
func (p *Process) Await(what string, limit time.Duration, wanted func(Event) bool) Event {
	p.t.Helper()
	late := time.After(limit)
	for seen := 0; ; {
		p.mu.Lock()
		events, more := p.events, p.more
		p.mu.Unlock()
		for ; seen < len(events); seen++ {
			if wanted(events[seen]) {
				return events[seen]
			}
		}
		select {
		case <-more:
		case <-p.gone:
			p.t.Fatalf("%s has ended, and was awaited to be %s", p.name, what)
		case <-late:
			p.t.Fatalf("%s is not %s after %v", p.name, what, limit)
		}
	}
}

// AwaitFlow waits until a fragment has come that was sent after that time.
func (p *Process) AwaitFlow(since time.Time, limit time.Duration) Event {
	p.t.Helper()
	return p.Await("getting what was sent since "+since.Format(time.TimeOnly), limit, func(e Event) bool {
		return e.Kind == Progress && e.Newest.After(since)
	})
}

// Stop makes both ends of the circuit finish.
func (p *Process) Stop() {
	p.t.Helper()
	if _, err := io.WriteString(p.order, "stop\n"); err != nil {
		p.t.Fatalf("%s: %v", p.name, err)
	}
}

// Signal sends a signal.
func (p *Process) Signal(sig syscall.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(sig); err != nil {
		p.t.Fatalf("%s: %v: %v", p.name, sig, err)
	}
}

// Kill ends the process as a crash would, and waits for its end.
func (p *Process) Kill() {
	p.t.Helper()
	p.Signal(syscall.SIGKILL)
	select {
	case <-p.gone:
	case <-time.After(Patience):
		p.t.Fatalf("%s survives SIGKILL", p.name)
	}
}

// LongestGap is the longest time in which nothing came although somebody was
// sending, and when it was over. It sees what is over.
func (p *Process) LongestGap() (longest time.Duration, end time.Time) {
	for _, e := range p.Events() {
		if d := e.To.Sub(e.From); e.Kind == Gap && d > longest {
			longest, end = d, e.To
		}
	}
	return longest, end
}
