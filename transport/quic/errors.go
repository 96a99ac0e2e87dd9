package quic

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"

	quicgo "github.com/quic-go/quic-go"

	"ckt.local/transport"
)

// tlsNoALPN is the TLS alert "no application protocol" as QUIC carries it.
const tlsNoALPN quicgo.TransportErrorCode = 0x100 + 120

// cut shortens a reason to what may travel.
func cut(s string) string {
	return strings.ToValidUTF8(s[:min(len(s), transport.MaxReason)], "")
}

// connError says why a QUIC connection has ended. local is the cause if this
// side has closed it, else nil.
func connError(err, local error) error {
	if app, ok := errors.AsType[*quicgo.ApplicationError](err); ok {
		if app.Remote {
			return &transport.RemoteError{Code: transport.Code(app.ErrorCode), Reason: cut(app.ErrorMessage)}
		}
		return cmp.Or(local, transport.ErrClosed)
	}
	if local != nil && errors.Is(err, quicgo.ErrTransportClosed) {
		return local // without local the socket has failed
	}
	if te, ok := errors.AsType[*quicgo.TransportError](err); ok && te.Remote {
		return &transport.RemoteError{Code: transportCode(te.ErrorCode), Reason: cut(te.ErrorMessage)}
	}
	if _, ok := errors.AsType[*quicgo.StatelessResetError](err); ok {
		return fmt.Errorf("%w: %w: %w", transport.ErrLost, transport.ErrReset, err)
	}
	return fmt.Errorf("%w: %w", transport.ErrLost, err)
}

// transportCode translates what the other side's QUIC or TLS stack has said.
func transportCode(c quicgo.TransportErrorCode) transport.Code {
	switch {
	case c == tlsNoALPN:
		return transport.CodeVersion
	case c.IsCryptoError():
		return transport.CodeRefused // it does not like our certificate
	case c == quicgo.ConnectionRefused:
		return transport.CodeLimit
	case c == quicgo.NoError:
		return transport.CodeClosed
	}
	return transport.CodeProtocol
}

// dialError says why a dial to addr has failed.
func dialError(ctx context.Context, addr net.Addr, err error) error {
	if ctx.Err() != nil && errors.Is(context.Cause(ctx), transport.ErrClosed) {
		return transport.ErrClosed
	}
	if e, ok := errors.AsType[*transport.WrongKeyError](err); ok {
		return e
	}
	if e, ok := errors.AsType[*transport.UnauthorizedError](err); ok {
		return e
	}
	if e, ok := errors.AsType[*transport.RemoteError](err); ok {
		return e
	}
	if errors.Is(err, transport.ErrSelf) {
		return err
	}
	if errors.Is(err, errBadAnswer) {
		return fmt.Errorf("the node at %v: %w", addr, err)
	}
	if refused(err) {
		return unreachable(addr, err) // its accept queue is full, or it is closing
	}
	if vn, ok := errors.AsType[*quicgo.VersionNegotiationError](err); ok {
		return &transport.RemoteError{Code: transport.CodeVersion, Reason: cut(vn.Error())}
	}
	if te, ok := errors.AsType[*quicgo.TransportError](err); ok && !te.Remote && te.ErrorCode.IsCryptoError() {
		// Its certificate is not what it has to be.
		return fmt.Errorf("transport/quic: the node at %v: %w", addr, err)
	}
	if e, ok := errors.AsType[*transport.RemoteError](connError(err, nil)); ok {
		return e
	}
	return unreachable(addr, err)
}

func unreachable(addr fmt.Stringer, err error) error {
	return fmt.Errorf("%w at %v: %w", transport.ErrUnreachable, addr, err)
}

// busy reports whether the other side has no place for us just now, be it its
// QUIC server or its hello: worth another try.
func busy(err error) bool {
	if err == nil {
		return false
	}
	r, ok := errors.AsType[*transport.RemoteError](err)
	if !ok {
		r, ok = errors.AsType[*transport.RemoteError](connError(err, nil))
	}
	return ok && r.Code == transport.CodeLimit
}

// refused reports whether the other side's QUIC server turned us away before
// anybody could judge us.
func refused(err error) bool {
	te, ok := errors.AsType[*quicgo.TransportError](err)
	return ok && te.Remote && te.ErrorCode == quicgo.ConnectionRefused
}

// timedOut reports whether a handshake has ended because nobody answered.
func timedOut(err error) bool {
	_, idle := errors.AsType[*quicgo.IdleTimeoutError](err)
	_, late := errors.AsType[*quicgo.HandshakeTimeoutError](err)
	return idle || late
}

// streamError translates what a call on a stream of c has returned.
func (c *conn) streamError(err error) error {
	if err == nil || err == io.EOF {
		return err
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return os.ErrDeadlineExceeded
	}
	if se, ok := errors.AsType[*quicgo.StreamError](err); ok {
		if se.Remote {
			return &transport.RemoteError{Code: transport.Code(se.ErrorCode)}
		}
		return fmt.Errorf("stream %d: %w", se.StreamID, transport.ErrClosed)
	}
	if errors.Is(err, quicgo.ErrStreamClosed) {
		return transport.ErrClosed
	}
	return c.fail(err)
}
