package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math"
	"reflect"
	"strconv"
	"strings"
	"text/tabwriter"

	"ckt.local/transport/identity"
	"ckt.local/transport/limit"
)

// maxLimits bounds the file of limits, in bytes, as limit.Read does.
const maxLimits = 64 << 10

// readLimits reads the file of serve --limits. Who may write to it decides
// what others may use, so it is read like a file about trust.
func readLimits(path string) (limit.Limits, error) {
	data, err := identity.SafeFile{Path: path, Max: maxLimits}.Read()
	if err != nil {
		return limit.Limits{}, err
	}
	l, err := limit.Read(bytes.NewReader(data))
	if err == nil {
		err = possible(l)
	}
	if err == nil {
		err = l.Check()
	}
	if err != nil {
		return limit.Limits{}, advise(fmt.Errorf("%s: %w", path, err),
			`it is JSON, with what differs from the defaults: {"peer":{"started_per_node":16}}; peerctl serve --help has the names`)
	}
	return l, nil
}

// possible names the first bound that would not hold as it is written.
func possible(l limit.Limits) error {
	wanted, taken := reflect.ValueOf(l), reflect.ValueOf(l.WithDefaults())
	for i := range wanted.NumField() {
		layer := wanted.Type().Field(i)
		for j := range layer.Type.NumField() {
			want, take := wanted.Field(i).Field(j).Int(), taken.Field(i).Field(j).Int()
			name := layer.Tag.Get("json") + "." + layer.Type.Field(j).Tag.Get("json")
			switch {
			case want <= 0 || want == take || name == "circuit.max_window" && want < take:
			case want > take:
				return fmt.Errorf("%s is %d, and can be at most %d", name, want, take)
			default:
				return fmt.Errorf("%s is %d, and can be no less than %d", name, want, take)
			}
		}
	}
	return nil
}

// limitNames are the names that a file of limits can have, for the help.
func limitNames() string {
	var b strings.Builder
	layers := reflect.TypeFor[limit.Limits]()
	defaults := reflect.ValueOf(limit.Limits{}.WithDefaults())
	for i := range layers.NumField() {
		layer := layers.Field(i)
		fmt.Fprintf(&b, "  %s\n", layer.Tag.Get("json"))
		for j := range layer.Type.NumField() {
			fmt.Fprintf(&b, "    %-20s %d\n", layer.Type.Field(j).Tag.Get("json"), defaults.Field(i).Field(j).Int())
		}
	}
	return b.String()
}

func (a *app) lsLimits(ctx context.Context, s *session, addr string) error {
	uses, err := s.node.PeerAPI.Limits(ctx, addr)
	if err != nil {
		return err
	}
	r := limitsResult{Limits: []limitRow{}}
	for _, u := range uses {
		r.Limits = append(r.Limits, newLimitRow(u))
	}
	return a.print(r)
}

// A limitsResult is what is used on a node, and how much that may be.
type limitsResult struct {
	Limits []limitRow `json:"limits"`
}

// A limitRow has numbers as the node gives them. A bound is null if there is
// none.
type limitRow struct {
	What    string `json:"what"`
	Used    *int64 `json:"used"` // null: of a rate only nodes have a part
	Limit   *int64 `json:"limit"`
	Busiest string `json:"busiest_node,omitempty"`
	TopUsed int64  `json:"busiest_used"`
	PerNode *int64 `json:"limit_of_one_node"`
	Refused int64  `json:"refused"`
}

func newLimitRow(u limit.Use) limitRow {
	r := limitRow{What: u.What, Limit: boundOf(u.Limit), TopUsed: u.TopUsed, PerNode: boundOf(u.PerNode), Refused: u.Refused}
	if !strings.HasSuffix(u.What, " per second") {
		r.Used = &u.Used
	}
	if !u.Top.IsZero() {
		r.Busiest = u.Top.String()
	}
	return r
}

func boundOf(n int64) *int64 {
	if n == 0 || n == math.MaxInt64 {
		return nil
	}
	return &n
}

func (r limitsResult) text(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "WHAT\tUSED\tBOUND\tBUSIEST NODE\tITS USE\tITS BOUND\tREFUSED")
	for _, row := range r.Limits {
		busiest, its := "-", "-"
		if row.Busiest != "" {
			busiest, its = brief(row.Busiest), row.amount(&row.TopUsed)
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%d\n", plain(row.What), row.amount(row.Used), row.amount(row.Limit),
			busiest, its, row.amount(row.PerNode), row.Refused)
	}
	return t.Flush()
}

// amount prints so much of what the row is about.
func (r limitRow) amount(n *int64) string {
	switch {
	case n == nil:
		return "-"
	case strings.HasSuffix(r.What, "bytes"):
		return size(*n)
	}
	return strconv.FormatInt(*n, 10)
}
