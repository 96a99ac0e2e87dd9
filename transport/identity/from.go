package identity

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
)

// A pattern is one element of from="...".
type pattern struct {
	negated bool
	block   netip.Prefix // an address or CIDR block; else invalid
	glob    string       // compared with the address as text
}

func parsePatterns(list []string) ([]pattern, error) {
	patterns := make([]pattern, 0, len(list))
	for _, s := range list {
		p, err := parsePattern(s)
		if err != nil {
			return nil, fmt.Errorf("pattern %q: %w", clip(s), err)
		}
		patterns = append(patterns, p)
	}
	return patterns, nil
}

func parsePattern(s string) (p pattern, err error) {
	s, p.negated = strings.CutPrefix(s, "!")
	if s == "" {
		return p, errors.New("empty")
	}
	for i := range len(s) {
		if !isAlnum(s[i]) && strings.IndexByte(".:*?/-_", s[i]) < 0 {
			return p, fmt.Errorf("character %q", s[i])
		}
	}
	if strings.Contains(s, "/") {
		p.block, err = parseBlock(s)
		return p, err
	}
	if addr, err := netip.ParseAddr(s); err == nil {
		addr = addr.Unmap()
		p.block = netip.PrefixFrom(addr, addr.BitLen())
		return p, nil
	}
	p.glob = strings.ToLower(s)
	// Nobody looks names up, so a negated name, or a misspelt address, would
	// deny nobody and let in whom it was meant to keep out.
	if p.negated && (!strings.ContainsAny(p.glob, "*?") || strings.Trim(p.glob, "0123456789abcdef.:*?") != "") {
		return p, errors.New("negated, but no address can match it")
	}
	return p, nil
}

// parseBlock reads a CIDR block. As in OpenSSH, bits beyond the mask must not
// be set: they mean that somebody has mistaken the one or the other.
func parseBlock(s string) (netip.Prefix, error) {
	block, err := netip.ParsePrefix(s)
	if err != nil {
		return netip.Prefix{}, errors.New("not a CIDR block")
	}
	if block != block.Masked() {
		return netip.Prefix{}, errors.New("bits are set beyond the mask")
	}
	if addr := block.Addr(); addr.Is4In6() {
		if block.Bits() < 96 {
			return netip.Prefix{}, errors.New("not a CIDR block of IPv4 addresses")
		}
		block = netip.PrefixFrom(addr.Unmap(), block.Bits()-96)
	}
	return block, nil
}

// matchAddr tells whether addr is in the list: some pattern matches, and no
// negated one does. An address that is not known matches nothing.
func matchAddr(patterns []pattern, addr netip.Addr) bool {
	if !addr.IsValid() {
		return false
	}
	addr = addr.Unmap().WithZone("")
	text := addr.String()
	found := false
	for _, p := range patterns {
		var hit bool
		if p.block.IsValid() {
			hit = p.block.Contains(addr)
		} else {
			hit = matchGlob(p.glob, text)
		}
		if hit && p.negated {
			return false
		}
		found = found || hit
	}
	return found
}

// matchGlob matches with * for any text and ? for any one byte. It goes back
// to the latest star only, so that no pattern takes exponential time.
func matchGlob(glob, text string) bool {
	star, mark := -1, 0
	g, t := 0, 0
	for t < len(text) {
		switch {
		case g < len(glob) && glob[g] == '*':
			star, mark = g, t
			g++
		case g < len(glob) && (glob[g] == '?' || glob[g] == text[t]):
			g++
			t++
		case star >= 0:
			mark++
			g, t = star+1, mark
		default:
			return false
		}
	}
	return strings.Trim(glob[g:], "*") == ""
}
