package quic_test

import (
	"context"
	"crypto/tls"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	quicgo "github.com/quic-go/quic-go"

	"ckt.local/transport"
	"ckt.local/transport/quic"
)

// rawListen runs serve on every connection to a raw QUIC server.
func rawListen(t *testing.T, conf *tls.Config, serve func(*quicgo.Conn)) string {
	t.Helper()
	ln, err := rawTransport(t).Listen(conf, &quicgo.Config{})
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			qc, err := ln.Accept(context.Background())
			if err != nil {
				return
			}
			wg.Go(func() {
				serve(qc)
				<-qc.Context().Done()
			})
		}
	})
	t.Cleanup(func() {
		ln.Close()
		wg.Wait()
	})
	return ln.Addr().String()
}

// answer sends bytes as the answer to hello.
func answer(bytes string) func(*quicgo.Conn) {
	return func(qc *quicgo.Conn) {
		s, err := qc.AcceptStream(context.Background())
		if err != nil {
			return
		}
		s.Write([]byte(bytes))
		s.Close()
	}
}

func TestHostileServer(t *testing.T) {
	e := listen(t, quic.Config{HandshakeTimeout: 20 * time.Second})
	// Those after which a dial waits, or asks again, until its time is over.
	// It is what a handshake may take on a busy machine.
	brief := listen(t, quic.Config{HandshakeTimeout: 3 * time.Second})
	waits := map[string]bool{"no answer": true, "half an answer": true, "a refusal": true}
	isUnreachable := func(err error) bool { return errors.Is(err, transport.ErrUnreachable) }
	// Broken is neither: nobody should dial it again, and nothing was said.
	isBroken := func(err error) bool {
		_, remote := errors.AsType[*transport.RemoteError](err)
		return err != nil && !isUnreachable(err) && !remote
	}
	isRemote := func(code transport.Code, reason string) func(error) bool {
		return func(err error) bool {
			r, ok := errors.AsType[*transport.RemoteError](err)
			return ok && r.Code == code && r.Reason == reason
		}
	}
	otherALPN := rawTLS(certificate(t))
	otherALPN.NextProtos = []string{"ckt/2"}
	ok := rawTLS(certificate(t))
	for _, test := range []struct {
		name  string
		conf  *tls.Config
		serve func(*quicgo.Conn)
		want  func(error) bool
	}{
		{"RSA", rawTLS(otherCertificate(t, "rsa")), answer(""), isBroken},
		{"two certificates", rawTLS(twoCertificates(t)), answer(""), isBroken},
		{"another major", otherALPN, answer(""), isRemote(transport.CodeVersion, "")},
		{"no answer", ok, func(*quicgo.Conn) {}, isUnreachable},
		{"half an answer", ok, func(qc *quicgo.Conn) {
			if s, err := qc.AcceptStream(context.Background()); err == nil {
				s.Write([]byte("\x05\x02\x93"))
			}
		}, isUnreachable},
		{"garbage", ok, answer("HTTP/1.1 400 Bad Request\r\n" + strings.Repeat("x", 100)), isBroken},
		{"a hello", ok, answer("\x08\x01\x96\x00\x00\x01\x01\x00\x90"), isBroken},
		{"garbage that ends", ok, answer("HTTP/1.1 400 Bad Request\r\n"), isBroken},
		{"an empty stream", ok, answer(""), isBroken},
		{"a length over the limit", ok, answer("\xff\xff\xff\x7f\x02"), isBroken},
		{"a refusal", ok, answer("\x0c\x03\x97\x07\xa3why\x00\x00\x00\xa0\x00"), isRemote(transport.CodeLimit, "why")},
		{"a duplicate of nothing", ok, answer("\x09\x03\x97\x02\xa0\x01\x05\x00\xa0\x00"), isRemote(transport.CodeDuplicate, "")},
		{"hangs up", ok, func(qc *quicgo.Conn) { qc.CloseWithError(300, "no time") }, isRemote(300, "no time")},
	} {
		t.Run(test.name, func(t *testing.T) {
			addr := rawListen(t, test.conf, test.serve)
			from := e
			if waits[test.name] {
				from = brief
			}
			c, err := from.Dial(seconds(t, 20), addr, nil)
			if c != nil || !test.want(err) {
				t.Errorf("Dial returned %v, %v", c, err)
			}
		})
	}
	honest(t, e)
}
