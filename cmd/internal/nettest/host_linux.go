package nettest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"
)

// device is what the one network card of each host is called.
const device = "cable0"

// A Host is a network namespace: one thread that lives in it, and the
// processes that are started from that thread. Its methods may be called from
// any goroutine, and fail the test if the kernel says no.
type Host struct {
	t    testing.TB
	name string
	work chan func()
	addr netip.Prefix // of device
}

// Pair returns two hosts at the ends of one cable, with the addresses
// 10.77.0.1/16 and 10.77.0.2/16. It skips the test where this process may not
// make network namespaces. The namespaces end with the test, and the processes
// started in them with it.
func Pair(t testing.TB) (a, b *Host) {
	t.Helper()
	a, b = newHost(t, "a"), newHost(t, "b")
	a.must("cable", connect(a, b))
	for i, h := range []*Host{a, b} {
		h.must("address", h.run(func() error {
			return errors.Join(setUp("lo", true), setUp(device, true), softGSO())
		}))
		h.SetAddr(netip.AddrFrom4([4]byte{10, 77, 0, byte(i + 1)}))
	}
	awaitPath(a, b)
	awaitPath(b, a)
	return a, b
}

// Allowed says why Pair would skip a test; nil: it would not.
func Allowed() error {
	may := make(chan error)
	go func() {
		runtime.LockOSThread() // and ends with its namespace
		may <- unshare()
	}()
	return <-may
}

// unshare moves the calling thread into a network of its own.
func unshare() error {
	err := syscall.Unshare(syscall.CLONE_NEWNET)
	if errors.Is(err, syscall.EPERM) {
		return errNotRoot
	}
	return err
}

var errNotRoot = errors.New("network namespaces need root (CAP_SYS_ADMIN and CAP_NET_ADMIN)")

// newHost starts the thread. Nothing else ever runs on it, and it ends with
// its goroutine, because that stays locked to it.
func newHost(t testing.TB, name string) *Host {
	t.Helper()
	h := &Host{t: t, name: name, work: make(chan func())}
	made, gone := make(chan error), make(chan struct{})
	go func() {
		defer close(gone)
		runtime.LockOSThread()
		made <- unshare()
		for f := range h.work {
			f()
		}
	}()
	err := <-made
	t.Cleanup(func() { close(h.work); <-gone })
	if errors.Is(err, errNotRoot) {
		t.Skipf("not tested here: %v", err)
	}
	if err != nil {
		t.Fatalf("cannot make a network namespace: %v", err)
	}
	return h
}

// awaitPath waits until a packet comes through: a cable that has just been
// plugged in drops what is sent until the kernel has noticed.
func awaitPath(from, to *Host) {
	from.t.Helper()
	sender, receiver := from.listen(), to.listen()
	defer sender.Close()
	defer receiver.Close()
	for limit, buf := time.Now().Add(10*time.Second), make([]byte, 10); ; {
		_, _ = sender.WriteTo(buf[:1], receiver.LocalAddr()) // a network that is down may say so
		_ = receiver.SetReadDeadline(time.Now().Add(5 * time.Millisecond))
		if _, _, err := receiver.ReadFrom(buf); err == nil {
			return
		}
		if time.Now().After(limit) {
			from.t.Fatalf("nothing comes from host %s to host %s", from.name, to.name)
		}
	}
}

// listen opens a UDP socket at the host's address.
func (h *Host) listen() net.PacketConn {
	h.t.Helper()
	var c net.PacketConn
	h.must("socket", h.run(func() (err error) {
		c, err = net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.AddrPortFrom(h.Addr(), 0)))
		return err
	}))
	return c
}

// run calls f on the host's thread.
func (h *Host) run(f func() error) error {
	done := make(chan error, 1)
	h.work <- func() { done <- f() }
	return <-done
}

func (h *Host) must(what string, err error) {
	h.t.Helper()
	if err != nil {
		h.t.Fatalf("host %s: %s: %v", h.name, what, err)
	}
}

// Run calls f on a thread that lives in the host's network. A process that f
// starts lives there too, and is killed with the host if it gets
// Pdeathsig: SIGKILL. f must not use another Host.
func (h *Host) Run(f func() error) error { return h.run(f) }

// Addr is the host's address.
func (h *Host) Addr() netip.Addr { return h.addr.Addr() }

// SetAddr takes the host's address away and gives it another one in
// 10.77.0.0/16.
func (h *Host) SetAddr(to netip.Addr) {
	h.t.Helper()
	next := netip.PrefixFrom(to, 16)
	h.must("change of address", h.run(func() error {
		if h.addr.IsValid() {
			if err := changeAddr(syscall.RTM_DELADDR, 0, h.addr); err != nil {
				return err
			}
		}
		return changeAddr(syscall.RTM_NEWADDR, syscall.NLM_F_CREATE|syscall.NLM_F_EXCL, next)
	}))
	h.addr = next
}

// Unplug takes the cable out of both hosts; Plug puts it back.
func (h *Host) Unplug() {
	h.t.Helper()
	h.must("unplug", h.run(func() error { return setUp(device, false) }))
}

// Plug undoes Unplug.
func (h *Host) Plug() {
	h.t.Helper()
	h.must("plug", h.run(func() error { return setUp(device, true) }))
}

// SetMTU sets how long a packet may be at the host's end of the cable. What
// arrives and is longer is dropped, and nobody is told: if only one end is
// changed, the path swallows the other's long packets.
func (h *Host) SetMTU(bytes int) {
	h.t.Helper()
	h.must("mtu", h.run(func() error {
		return requestRoute(syscall.RTM_NEWLINK, 0, ifinfo(0, 0, 0), attrText(iflaIfname, device), attrNative(iflaMTU, uint32(bytes)))
	}))
}

// Received is how many bytes have come out of the cable, with all headers.
func (h *Host) Received() int64 {
	h.t.Helper()
	var n int64
	h.must("counters", h.run(func() error {
		text, err := os.ReadFile("/proc/thread-self/net/dev")
		if err != nil {
			return err
		}
		_, line, _ := strings.Cut(string(text), device+":")
		_, err = fmt.Sscan(line, &n)
		return err
	}))
	return n
}

const (
	iflaIfname     = 3
	iflaMTU        = 4
	iflaLinkinfo   = 18
	iflaNetNsFd    = 28
	iflaGSOMaxSegs = 40
	infoKind       = 1
	infoData       = 2
	vethInfoPeer   = 1
)

// connect makes a cable whose ends are in the two hosts. Both have one name:
// they are in different namespaces.
func connect(a, b *Host) error {
	var there *os.File
	err := b.run(func() (err error) {
		there, err = os.Open("/proc/thread-self/ns/net")
		return err
	})
	if err != nil {
		return err
	}
	defer there.Close()
	return a.run(func() error {
		return requestRoute(syscall.RTM_NEWLINK, syscall.NLM_F_CREATE|syscall.NLM_F_EXCL,
			ifinfo(0, 0, 0), attrText(iflaIfname, device),
			nest(iflaLinkinfo, attrText(infoKind, "veth"), nest(infoData,
				nest(vethInfoPeer, ifinfo(0, 0, 0), attrText(iflaIfname, device),
					attrNative(iflaNetNsFd, uint32(there.Fd()))))))
	})
}

// requestRoute sends one request about links, addresses or queues.
func requestRoute(kind, flags uint16, body ...[]byte) error {
	s, err := openSocket(syscall.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	defer s.close()
	return s.request(kind, flags, concat(body...))
}

// ifinfo is a struct ifinfomsg.
func ifinfo(index int, flags, change uint32) []byte {
	b := make([]byte, 4, 16)
	b = binary.NativeEndian.AppendUint32(b, uint32(index))
	b = binary.NativeEndian.AppendUint32(b, flags)
	return binary.NativeEndian.AppendUint32(b, change)
}

// setUp switches a network card of this thread's namespace on or off.
func setUp(name string, up bool) error {
	flags := uint32(0)
	if up {
		flags = syscall.IFF_UP
	}
	return requestRoute(syscall.RTM_NEWLINK, 0, ifinfo(0, flags, syscall.IFF_UP), attrText(iflaIfname, name))
}

// softGSO makes the kernel cut what QUIC sends in one go into the packets that
// go over a real cable, so that each is lost or kept by itself.
func softGSO() error {
	return requestRoute(syscall.RTM_NEWLINK, 0, ifinfo(0, 0, 0), attrText(iflaIfname, device), attrNative(iflaGSOMaxSegs, 1))
}

func changeAddr(kind, flags uint16, p netip.Prefix) error {
	card, err := net.InterfaceByName(device)
	if err != nil {
		return err
	}
	const address, local = 1, 2 // IFA_ADDRESS, IFA_LOCAL
	head := []byte{syscall.AF_INET, byte(p.Bits()), 0, 0}
	head = binary.NativeEndian.AppendUint32(head, uint32(card.Index))
	ip := p.Addr().AsSlice()
	return requestRoute(kind, flags, head, attr(local, ip), attr(address, ip))
}
