package identity

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// maxCount is the largest number that max-circuits and rate take: what is more
// than any node bears bounds nothing.
const maxCount = 1 << 20

// The forms of expiry-time, in the notation of package time.
const (
	expiryDay     = "20060102"
	expiryMinutes = "200601021504"
	expirySeconds = "20060102150405"
)

// parseOptions takes the comma-separated options from the front of line and
// returns what follows the blanks after them.
func (e *Entry) parseOptions(line string) (rest string, err error) {
	for {
		i := strings.IndexAny(line, "=, \t")
		if i < 0 {
			return "", errors.New("no key")
		}
		name := line[:i]
		if line[i] != '=' {
			return "", fmt.Errorf("unknown option %q", clip(name))
		}
		value, tail, err := cutQuoted(line[i+1:])
		if err != nil {
			return "", fmt.Errorf("option %q: %w", clip(name), err)
		}
		if err := e.setOption(name, value); err != nil {
			return "", fmt.Errorf("option %q: %w", clip(name), err)
		}
		switch {
		case tail == "":
			return "", errors.New("no key")
		case tail[0] == ' ' || tail[0] == '\t':
			return strings.TrimLeft(tail, " \t"), e.consistent()
		case tail[0] != ',':
			return "", fmt.Errorf("option %q: neither comma nor blank after its value", clip(name))
		}
		line = tail[1:]
	}
}

// consistent finds what only a slip of the pen can have meant.
func (e *Entry) consistent() error {
	for _, s := range e.Start {
		if e.Services != nil && !slices.Contains(e.Services, s) {
			return fmt.Errorf("option %q: %q is not among its services", "start", clip(s))
		}
	}
	return nil
}

// cutQuoted takes a quoted value from the front of s. As in OpenSSH, \" is a
// quote and any other backslash is itself.
func cutQuoted(s string) (value, tail string, err error) {
	if s == "" || s[0] != '"' {
		return "", "", errors.New("the value is not in quotes")
	}
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		switch {
		case s[i] == '"':
			return b.String(), s[i+1:], nil
		case s[i] == '\\' && i+1 < len(s) && s[i+1] == '"':
			i++
		}
		b.WriteByte(s[i])
	}
	return "", "", errors.New("the quote is not closed")
}

func (e *Entry) setOption(name, value string) (err error) {
	errTwice := errors.New("given twice")
	switch name {
	case "services":
		if e.Services != nil {
			return errTwice
		}
		e.Services = strings.Split(value, ",")
		for _, s := range e.Services {
			if err := ValidServiceName(s); err != nil {
				return err
			}
		}
	case "start":
		if e.Start != nil {
			return errTwice
		}
		e.Start, err = parseStart(value)
	case "max-circuits":
		if e.MaxCircuits != 0 {
			return errTwice
		}
		e.MaxCircuits, err = parseCount(value)
	case "rate":
		if e.Rate != 0 {
			return errTwice
		}
		e.Rate, err = parseCount(value)
	case "from":
		if e.From != nil {
			return errTwice
		}
		e.From = strings.Split(value, ",")
		_, err = parsePatterns(e.From)
	case "expiry-time":
		if !e.Expires.IsZero() {
			return errTwice
		}
		e.Expires, err = parseExpiry(value)
	default:
		return errors.New("not known")
	}
	return err
}

// parseStart reads a list of services, which may have nothing in it.
func parseStart(value string) ([]string, error) {
	if value == "" {
		return []string{}, nil
	}
	names := strings.Split(value, ",")
	for _, s := range names {
		if err := ValidServiceName(s); err != nil {
			return nil, err
		}
	}
	return names, nil
}

// parseCount reads a number as it is written by [Entry.String]. There is no
// zero: whom nothing is allowed has no line.
func parseCount(s string) (int, error) {
	n, err := strconv.Atoi(s)
	if err != nil || n < 1 || n > maxCount || strconv.Itoa(n) != s {
		return 0, fmt.Errorf("%q is not a number from 1 to %d", clip(s), maxCount)
	}
	return n, nil
}

func parseExpiry(s string) (time.Time, error) {
	digits, zone := s, time.Local
	if d, ok := strings.CutSuffix(s, "Z"); ok {
		digits, zone = d, time.UTC
	}
	bad := fmt.Errorf("%q is not YYYYMMDD[HHMM[SS]][Z]", clip(s))
	// time.Parse would take a fraction of a second unasked.
	if strings.Trim(digits, "0123456789") != "" {
		return time.Time{}, bad
	}
	var layout string
	switch len(digits) {
	case len(expiryDay):
		layout = expiryDay
	case len(expiryMinutes):
		layout = expiryMinutes
	case len(expirySeconds):
		layout = expirySeconds
	default:
		return time.Time{}, bad
	}
	t, err := time.ParseInLocation(layout, digits, zone)
	if err != nil {
		return time.Time{}, bad
	}
	// In UTC an entry is the same wherever it is read again; the years are
	// those that can be written back with four digits.
	t = t.UTC()
	if t.Unix() <= 0 || t.Year() > 9999 {
		return time.Time{}, bad
	}
	return t, nil
}
