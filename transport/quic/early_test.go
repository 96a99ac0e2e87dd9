package quic_test

import (
	"context"
	"crypto/ed25519"
	"errors"
	"net"
	"testing"
	"time"

	quicgo "github.com/quic-go/quic-go"

	"ckt.local/transport"
	"ckt.local/transport/quic"
)

// What comes on streams that are reset is kept until somebody reads it, and
// opens the connection's window anew each time. So a second stream before hello
// is over ends the connection, at either side, and whoever asked goes on.
func TestStreamsBeforeHelloIsOver(t *testing.T) {
	for name, allow := range map[string]func(ed25519.PublicKey, net.Addr) error{
		"authorised": everybody,
		"stranger":   func(ed25519.PublicKey, net.Addr) error { return errors.New("unknown") },
	} {
		t.Run(name, func(t *testing.T) {
			e := listen(t, quic.Config{Authorize: allow, HandshakeTimeout: time.Minute})
			qc, err := rawDial(t, e, rawTLS(certificate(t)))
			if err != nil {
				t.Fatal(err)
			}
			for range 2 {
				if s, err := qc.OpenStream(); err == nil {
					s.Write([]byte{9})
				}
			}
			err = rawEnd(t, qc)
			app, ok := errors.AsType[*quicgo.ApplicationError](err)
			if !ok || transport.Code(app.ErrorCode) != transport.CodeProtocol && transport.Code(app.ErrorCode) != transport.CodeRefused {
				t.Errorf("it has ended with %v", err)
			}
		})
	}
	t.Run("acceptor", func(t *testing.T) {
		addr := rawListen(t, rawTLS(certificate(t)), func(qc *quicgo.Conn) {
			qc.AcceptStream(context.Background())
			if s, err := qc.OpenStream(); err == nil {
				s.Write([]byte{9})
			}
		})
		e := listen(t, quic.Config{Authorize: everybody, HandshakeTimeout: time.Minute})
		if c, err := e.Dial(seconds(t, 10), addr, nil); err == nil || errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("the dial has ended with %v, %v", c, err)
		}
	})
}
