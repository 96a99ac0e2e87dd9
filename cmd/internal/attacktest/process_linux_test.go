package attacktest

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// A process is a child of this one. Its methods are for one goroutine.
type process struct {
	URL string

	name  string
	cmd   *exec.Cmd
	in    io.WriteCloser
	out   chan answer   // closed when there is no more
	gone  chan struct{} // closed when it has ended
	said  tail          // its stderr
	ended error         // read once gone is closed
	once  sync.Once     // of end
}

// A tail keeps the beginning of what is written, where a crash says why, and
// counts lines.
type tail struct {
	mu    sync.Mutex
	text  strings.Builder
	lines int
}

func (w *tail) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.text.Len() < 16<<10 {
		w.text.Write(b)
	}
	w.lines += strings.Count(string(b), "\n")
	return len(b), nil
}

func (w *tail) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.text.String()
}

// start runs the test program once more, with a job. It ends with the test.
func start(t testing.TB, name string, j job) *process {
	t.Helper()
	text, err := json.Marshal(j)
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	p := &process{name: name, cmd: exec.Command(self), out: make(chan answer), gone: make(chan struct{})}
	p.cmd.Env = append(os.Environ(), roleVar+"="+string(text), "GORACE=atexit_sleep_ms=20", "QUIC_GO_DISABLE_RECEIVE_BUFFER_WARNING=true")
	p.cmd.Stderr = &p.said
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if p.in, err = p.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go p.read(out)
	t.Cleanup(func() { p.end(t) })
	a, err := p.answer()
	if err != nil {
		t.Fatal(err)
	}
	p.URL = a.URL
	return p
}

func (p *process) read(out io.Reader) {
	defer close(p.gone)
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, 64<<20)
	for lines.Scan() {
		var a answer
		if err := json.Unmarshal(lines.Bytes(), &a); err != nil {
			a = failed(fmt.Errorf("%w: %.200s", err, lines.Text()))
		}
		p.out <- a
	}
	close(p.out)
	p.ended = p.cmd.Wait()
}

// ask gives an order and returns the answer.
func (p *process) ask(o order) (answer, error) {
	if err := json.NewEncoder(p.in).Encode(o); err != nil {
		return answer{}, fmt.Errorf("%s takes no order: %w\n%s", p.name, err, p.said.String())
	}
	return p.answer()
}

func (p *process) answer() (answer, error) {
	select {
	case a, ok := <-p.out:
		switch {
		case !ok:
			<-p.gone
			return a, fmt.Errorf("%s has ended: %v\n%s", p.name, p.ended, p.said.String())
		case a.Err != "":
			return a, fmt.Errorf("%s: %s", p.name, a.Err)
		}
		return a, nil
	case <-time.After(3 * patience):
		return answer{}, fmt.Errorf("%s does not answer", p.name)
	}
}

// must is ask that ends the test.
func (p *process) must(t testing.TB, o order) answer {
	t.Helper()
	a, err := p.ask(o)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// end lets the process end by itself, or kills it.
func (p *process) end(t testing.TB) { p.once.Do(func() { p.finish(t) }) }

func (p *process) finish(t testing.TB) {
	p.in.Close()
	select {
	case <-p.gone:
		if p.ended != nil {
			t.Errorf("%s: %v\n%s", p.name, p.ended, p.said.String())
		}
	case <-time.After(patience):
		t.Errorf("%s does not end\n%s", p.name, p.said.String())
		p.cmd.Process.Kill()
		<-p.gone
	}
}

// status reads a line of /proc/PID/status that is in KiB, and returns bytes.
func (p *process) status(name string) (int64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, name+":"); ok {
			n, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 64)
			return n << 10, err
		}
	}
	return 0, fmt.Errorf("%s: no %s in its status", p.name, name)
}

// resident is what the process has in memory now.
func (p *process) resident(t testing.TB) int64 {
	t.Helper()
	n, err := p.status("VmRSS")
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// forgetPeak makes the kernel forget the highest resident memory so far.
func (p *process) forgetPeak(t testing.TB) {
	t.Helper()
	if err := os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", p.cmd.Process.Pid), []byte("5"), 0); err != nil {
		t.Fatal(err)
	}
}

// peak is the highest resident memory since forgetPeak.
func (p *process) peak(t testing.TB) int64 {
	t.Helper()
	n, err := p.status("VmHWM")
	if err != nil {
		t.Fatal(err)
	}
	return n
}
