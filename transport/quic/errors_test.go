package quic

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"

	quicgo "github.com/quic-go/quic-go"

	"ckt.local/transport"
)

func TestConnError(t *testing.T) {
	local := errors.New("why this side has closed it")
	remote := func(c transport.Code, reason string) error {
		return &transport.RemoteError{Code: c, Reason: reason}
	}
	long := strings.Repeat("r", transport.MaxReason)
	for _, test := range []struct {
		name  string
		err   error
		local error
		want  error
	}{
		{"closed by us", &quicgo.ApplicationError{}, nil, transport.ErrClosed},
		{"closed by us for a reason", &quicgo.ApplicationError{}, local, local},
		{"closed by them", &quicgo.ApplicationError{Remote: true, ErrorCode: 3, ErrorMessage: "bye"}, nil, remote(3, "bye")},
		{"closed by both", &quicgo.ApplicationError{Remote: true, ErrorCode: 3}, local, remote(3, "")},
		{"a reason that is too long", &quicgo.ApplicationError{Remote: true, ErrorMessage: long + "x"}, nil, remote(0, long)},
		{"a rune that is cut", &quicgo.ApplicationError{Remote: true, ErrorMessage: long[1:] + "€"}, nil, remote(0, long[1:])},
		{"silence", &quicgo.IdleTimeoutError{}, nil, transport.ErrLost},
		{"stateless reset", &quicgo.StatelessResetError{}, nil, transport.ErrLost},
		{"our socket fails", quicgo.ErrTransportClosed, nil, transport.ErrLost},
		{"our socket is closed", quicgo.ErrTransportClosed, local, local},
		{"they broke QUIC", &quicgo.TransportError{ErrorCode: quicgo.ProtocolViolation}, nil, transport.ErrLost},
		{"they say we broke QUIC", &quicgo.TransportError{Remote: true, ErrorCode: quicgo.ProtocolViolation, ErrorMessage: "x"}, nil, remote(transport.CodeProtocol, "x")},
		{"they do not like our certificate", &quicgo.TransportError{Remote: true, ErrorCode: 0x100 + 42}, nil, remote(transport.CodeRefused, "")},
		{"they speak another major", &quicgo.TransportError{Remote: true, ErrorCode: tlsNoALPN}, nil, remote(transport.CodeVersion, "")},
		{"they are full", &quicgo.TransportError{Remote: true, ErrorCode: quicgo.ConnectionRefused}, nil, remote(transport.CodeLimit, "")},
		{"their QUIC stack has closed", &quicgo.TransportError{Remote: true, ErrorCode: quicgo.NoError}, nil, remote(transport.CodeClosed, "")},
	} {
		got := connError(test.err, test.local)
		w, isRemote := errors.AsType[*transport.RemoteError](test.want)
		g, gotRemote := errors.AsType[*transport.RemoteError](got)
		if isRemote != gotRemote || (isRemote && *g != *w) || (!isRemote && !errors.Is(got, test.want)) {
			t.Errorf("%s: %v, want %v", test.name, got, test.want)
		}
		if errors.Is(test.want, transport.ErrLost) && !errors.Is(got, test.err) {
			t.Errorf("%s: %v does not say what has happened", test.name, got)
		}
		if _, reset := test.err.(*quicgo.StatelessResetError); errors.Is(got, transport.ErrReset) != reset {
			t.Errorf("%s: %v is ErrReset: %v", test.name, got, !reset)
		}
	}
}

func TestResolve(t *testing.T) {
	for addr, want := range map[string]string{
		"127.0.0.1:80":          "127.0.0.1:80",
		"[::ffff:127.0.0.1]:80": "127.0.0.1:80",
		"[::1]:80":              "[::1]:80",
		"localhost:80":          "127.0.0.1:80",
		":80":                   "127.0.0.1:80",
	} {
		if got, err := resolve(t.Context(), addr); err != nil || got.String() != want {
			t.Errorf("%s: %v, %v; want %s", addr, got, err, want)
		}
	}
	for _, addr := range []string{"", "localhost", "127.0.0.1", "127.0.0.1:no-such-service", "127.0.0.1:99999"} {
		if got, err := resolve(t.Context(), addr); err == nil {
			t.Errorf("%s: %v, want an error", addr, got)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if got, err := resolve(ctx, "name.invalid:80"); err == nil {
		t.Errorf("resolved after its context had ended: %v", got)
	}
}

func TestSameAddr(t *testing.T) {
	v4 := &net.UDPAddr{IP: net.IPv4(10, 0, 0, 1).To4(), Port: 1}
	in6 := &net.UDPAddr{IP: net.IPv4(10, 0, 0, 1).To16(), Port: 1}
	port := &net.UDPAddr{IP: v4.IP, Port: 2}
	unix := &net.UnixAddr{Name: v4.String(), Net: "unixgram"}
	if !sameAddr(v4, in6) || sameAddr(v4, port) || sameAddr(v4, unix) || !sameAddr(unix, unix) {
		t.Error("sameAddr does not see which addresses are the same")
	}
}

func TestConfigNeeds(t *testing.T) {
	pc := udp(t)
	if _, err := Listen(Config{Conn: pc}); err == nil {
		t.Error("Listen without a key has worked")
	}
	if _, err := pc.WriteTo([]byte("x"), pc.LocalAddr()); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Listen has failed and left the socket open: %v", err)
	}
}

func TestTwoConnsThatAreLost(t *testing.T) {
	// The other side has lost a half-open and an open one, and names the one
	// that it was told of: with the second name it is in.
	for _, halfFirst := range []bool{true, false} {
		other := node{nonce: 2}
		tab := table{self: node{nonce: 1}, nodes: make(map[node]*entry), greeting: make(map[uint64]chan struct{})}
		accepted := func() *conn { return &conn{node: other, serial: tab.next()} }
		half, open := accepted(), accepted()
		tab.nodes[other] = &entry{half: half, open: open}
		first, second := half, open
		if !halfFirst {
			first, second = open, half
		}
		if v := tab.offer(accepted(), first.serial); v.holds != second || len(v.stale) != 1 || v.stale[0] != first {
			t.Errorf("the first is named: %+v", v)
		}
		last := accepted()
		if v := tab.offer(last, second.serial); v.holds != nil || len(v.stale) != 1 || v.stale[0] != second || tab.nodes[other].half != last {
			t.Errorf("the second is named: %+v", v)
		}
	}
}
