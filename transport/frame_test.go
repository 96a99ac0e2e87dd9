package transport

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

func TestFrameRoundTrip(t *testing.T) {
	const limit = 1 << 20
	for _, n := range []int{0, 1, 126, 127, 128, 16382, 16383, 16384, limit - 1} {
		body := bytes.Repeat([]byte{0xa5}, n)
		b := append(AppendFrameHeader(nil, 7, n), body...)
		if head := len(b) - n; head > MaxFrameHeader {
			t.Errorf("%d bytes: the header has %d bytes, more than MaxFrameHeader", n, head)
		}
		b = append(b, "what follows"...)
		size, err := FrameSize(b, limit)
		if err != nil {
			t.Fatalf("%d bytes: FrameSize: %v", n, err)
		}
		typ, got, took, err := ParseFrame(b, limit)
		if err != nil || typ != 7 || !bytes.Equal(got, body) || took != size {
			t.Errorf("%d bytes: ParseFrame: type %d, %d bytes, took %d of %d, %v", n, typ, len(got), took, size, err)
		}
		// ReadFrame leaves what follows alone, however little a Read gives it.
		r := bytes.NewReader(b)
		typ, got, err = ReadFrame(iotest.OneByteReader(r), limit)
		if err != nil || typ != 7 || !bytes.Equal(got, body) {
			t.Errorf("%d bytes: ReadFrame: type %d, %d bytes, %v", n, typ, len(got), err)
		}
		if rest, _ := io.ReadAll(r); string(rest) != "what follows" {
			t.Errorf("%d bytes: ReadFrame left %q", n, rest)
		}
	}
}

func TestFrameFaults(t *testing.T) {
	const limit = 100
	for _, test := range []struct {
		name  string
		bytes string
		want  FrameError
	}{
		{"no type", "\x00", FrameError{Limit: limit}},
		{"over the limit by one", "\x65", FrameError{Len: 101, Limit: limit}},
		{"over the limit by far", "\xff\xff\xff\x7f", FrameError{Len: 1<<28 - 1, Limit: limit}},
		{"a length of five bytes", "\x80\x80\x80\x80\x01", FrameError{Limit: limit}},
		{"a length without end", "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", FrameError{Limit: limit}},
	} {
		_, _, size, errParse := ParseFrame([]byte(test.bytes), limit)
		_, errSize := FrameSize([]byte(test.bytes), limit)
		_, _, errRead := ReadFrame(strings.NewReader(test.bytes), limit)
		for _, err := range []error{errParse, errSize, errRead} {
			if f, ok := errors.AsType[*FrameError](err); !ok || *f != test.want || size != 0 {
				t.Errorf("%s: %v, want %v", test.name, err, &test.want)
			}
		}
	}
}

func TestFrameCutShort(t *testing.T) {
	whole := append(AppendFrameHeader(nil, 1, 200), make([]byte, 200)...)
	for n := range whole {
		part := whole[:n]
		if _, _, size, err := ParseFrame(part, 1000); size != 0 || err != nil {
			t.Fatalf("ParseFrame of %d of %d bytes: %d, %v; want to be asked for more", n, len(whole), size, err)
		}
		want := io.ErrUnexpectedEOF
		if n == 0 {
			want = io.EOF // between frames is no fault
		}
		if _, _, err := ReadFrame(bytes.NewReader(part), 1000); err != want {
			t.Fatalf("ReadFrame of %d of %d bytes: %v, want %v", n, len(whole), err, want)
		}
	}
}

func FuzzFrame(f *testing.F) {
	f.Add(append(AppendFrameHeader(nil, 1, 3), "abc"...))
	f.Add([]byte{0})
	f.Add([]byte{0xff, 0xff, 0xff, 0x7f})
	f.Add([]byte{0x80, 0x80, 0x80, 0x80, 0x01})
	const limit = 1 << 12
	f.Fuzz(func(t *testing.T, b []byte) {
		typ, body, size, err := ParseFrame(b, limit)
		rtyp, rbody, rerr := ReadFrame(bytes.NewReader(b), limit)
		fsize, ferr := FrameSize(b, limit)
		switch {
		case err != nil:
			if rerr == nil || ferr == nil {
				t.Fatalf("ParseFrame: %v, ReadFrame: %v, FrameSize: %v", err, rerr, ferr)
			}
		case size == 0:
			if rerr != io.EOF && rerr != io.ErrUnexpectedEOF {
				t.Fatalf("ParseFrame wants more bytes, ReadFrame: %v", rerr)
			}
		default:
			if rerr != nil || ferr != nil || fsize != size || rtyp != typ || !bytes.Equal(rbody, body) {
				t.Fatalf("ReadFrame: type %d, %x, %v; FrameSize: %d, %v; ParseFrame: type %d, %x, %d",
					rtyp, rbody, rerr, fsize, ferr, typ, body, size)
			}
			// A length may be written longer than it has to be; what it says holds.
			again := append(AppendFrameHeader(nil, typ, len(body)), body...)
			if len(again) > size || !bytes.HasSuffix(b[:size], body) {
				t.Fatalf("%x was read as type %d, %x", b, typ, body)
			}
		}
	})
}

func TestCodeNames(t *testing.T) {
	for c := CodeClosed; c <= CodePSK; c++ {
		if strings.HasPrefix(c.String(), "code") {
			t.Errorf("%d has no name", uint64(c))
		}
	}
	if got := Code(300).String(); got != "code 300" {
		t.Errorf("code 300 is called %q", got)
	}
}

func TestErrorTexts(t *testing.T) {
	// What the other side writes is quoted: it cannot end a line of a log.
	err := &RemoteError{Code: CodeLimit, Reason: "a\nb"}
	if got := err.Error(); got != `transport: other side: limit: "a\nb"` {
		t.Errorf("RemoteError: %s", got)
	}
	if got := (&RemoteError{}).Error(); got != "transport: other side: closed" {
		t.Errorf("RemoteError: %s", got)
	}
	no := errors.New("no")
	if u := (&UnauthorizedError{Addr: "x:1", Err: no}); !errors.Is(u, no) || !strings.Contains(u.Error(), "x:1") {
		t.Errorf("UnauthorizedError: %v", u)
	}
	if w := (&WrongKeyError{Addr: "x:1"}); !strings.Contains(w.Error(), "x:1") {
		t.Errorf("WrongKeyError: %v", w)
	}
}
