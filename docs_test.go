package ckt_test

import (
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"unicode"
)

// TestDocsLinks follows every relative link of every Markdown file of the
// repository to the file and the heading it names.
func TestDocsLinks(t *testing.T) {
	broken, err := brokenLinks(os.DirFS("."))
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range broken {
		t.Error(b)
	}
}

func TestDocsLinksCatchesBrokenOnes(t *testing.T) {
	fsys := fstest.MapFS{
		"README.md": {Data: []byte("# Top\n\n[a](docs/a.md#one-two-three) [b](docs/gone.md) [c](docs/a.md#gone)\n" +
			"[d](#top) [e](https://example.org/x) [f](docs)\n```\n[g](gone.md)\n```\n`[h](gone.md)` [i]: x\n\n[j]: gone.md\n")},
		"docs/a.md": {Data: []byte("## One, `two`: three!\n\n[up](../README.md) [same](#one-two-three-1)\n\n## One two three\n")},
	}
	got, err := brokenLinks(fsys)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"README.md: docs/gone.md: no such file",
		"README.md: docs/a.md#gone: no such heading",
		"README.md: gone.md: no such file",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// brokenLinks returns a line for each relative link that leads nowhere.
func brokenLinks(fsys fs.FS) ([]string, error) {
	texts := make(map[string]string) // by path
	err := fs.WalkDir(fsys, ".", func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && p != "." && (d.Name()[0] == '.' || d.Name() == "testdata") {
			return fs.SkipDir
		}
		if !d.IsDir() && path.Ext(p) == ".md" {
			text, err := fs.ReadFile(fsys, p)
			texts[p] = string(text)
			return err
		}
		return nil
	})
	var broken []string
	for _, p := range slices.Sorted(maps.Keys(texts)) {
		for _, link := range links(texts[p]) {
			if fault := follow(fsys, texts, p, link); fault != "" {
				broken = append(broken, fmt.Sprintf("%s: %s: %s", p, link, fault))
			}
		}
	}
	return broken, err
}

// follow returns what is wrong with a link that stands in the file from.
func follow(fsys fs.FS, texts map[string]string, from, link string) string {
	file, anchor, _ := strings.Cut(link, "#")
	if strings.Contains(file, ":") { // https:, mailto:
		return ""
	}
	target := from
	if file != "" {
		target = path.Join(path.Dir(from), file)
	}
	if !exists(fsys, target) {
		return "no such file"
	}
	if anchor != "" && !slices.Contains(headings(texts[target]), anchor) {
		return "no such heading"
	}
	return ""
}

// prose returns the text without code blocks and code spans, and apart from
// that the headings with their code spans.
func prose(text string) (body string, heads []string) {
	var b strings.Builder
	fence := ""
	for line := range strings.Lines(text) {
		trimmed := strings.TrimSpace(line)
		switch mark, _, _ := strings.Cut(trimmed+"   ", " "); {
		case fence != "":
			if strings.HasPrefix(trimmed, fence) {
				fence = ""
			}
		case strings.HasPrefix(trimmed, "```"), strings.HasPrefix(trimmed, "~~~"):
			fence = trimmed[:3]
		case mark != "" && strings.Trim(mark, "#") == "":
			heads = append(heads, strings.TrimSpace(trimmed[len(mark):]))
			fallthrough
		default:
			b.WriteString(line)
		}
	}
	return regexp.MustCompile("`[^`\n]*`").ReplaceAllString(b.String(), "``"), heads
}

// links returns the targets of all links of a Markdown text.
func links(text string) []string {
	body, _ := prose(text)
	var out []string
	for _, m := range regexp.MustCompile(`\]\(([^()\s]+)\)|(?m:^\[[^\]]+\]:\s*(\S+))`).FindAllStringSubmatch(body, -1) {
		out = append(out, m[1]+m[2])
	}
	return out
}

// headings returns the anchors that a forge makes of the headings of a
// Markdown text.
func headings(text string) []string {
	_, heads := prose(text)
	seen := make(map[string]int)
	var out []string
	for _, head := range heads {
		slug := strings.Map(func(r rune) rune {
			switch {
			case r == ' ':
				return '-'
			case unicode.IsLetter(r), unicode.IsDigit(r), r == '-', r == '_':
				return unicode.ToLower(r)
			}
			return -1
		}, head)
		n := seen[slug]
		seen[slug]++
		if n > 0 {
			slug = fmt.Sprintf("%s-%d", slug, n)
		}
		out = append(out, slug)
	}
	return out
}
