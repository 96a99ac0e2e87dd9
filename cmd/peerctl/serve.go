package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"ckt.local/cmd/internal/node"
	"ckt.local/peer/echo"
	"ckt.local/peer/files"
	"ckt.local/transport/identity"
)

func serveCmd(a *app) *cobra.Command {
	var cfg node.Config
	var files serveFiles
	cmd := &cobra.Command{
		Use:   "serve [--listen HOST:PORT] [--service NAME]… [--dir DIR]",
		Short: "Run a node with the built-in services",
		Long: `Run a node. The first line on stdout is the node's URL; what happens goes to
stderr. The built-in services are "echo", which sends back what it gets, and
"files", which receives files into DIR. They are registered, and started when
another node asks for it. Without --service it is echo, and files if there is
a --dir.

--limits FILE bounds what other nodes may use of this one: JSON, with what
differs from the defaults, such as {"peer":{"started_per_node":16}}. A negative
number is no bound (of max_window: no growth). The names, and the defaults;
sizes are in bytes:

` + limitNames() + `
--audit FILE appends what was decided about other nodes, as JSON lines: who asked
for what, whether it was allowed, and if not, why. "-" is stderr.

SIGINT and SIGTERM end the node after what is queued has been delivered; a
second one ends it at once.`,
		Example: "  peerctl serve --dir /srv/inbox\n  peerctl serve --listen 127.0.0.1:0 --service echo\n" +
			"  peerctl serve --limits limits.json --audit /var/log/ckt-audit.jsonl",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if cmd.Flags().Changed("dir") && cfg.Dir == "" {
				return usagef("--dir needs a DIR")
			}
			return a.serve(cmd.Context(), cfg, files)
		},
	}
	cmd.Flags().StringVar(&cfg.Listen, "listen", ":4242", "the UDP `HOST:PORT` to listen on; port 0 is any free one")
	cmd.Flags().StringArrayVar(&cfg.Services, "service", nil, "a built-in service's `NAME`; may be repeated")
	a.lingerFlag(cmd)
	cmd.Flags().StringVar(&cfg.Dir, "dir", "", "the `DIR` that files are received into")
	cmd.Flags().StringVar(&files.limits, "limits", "", "the `FILE` with bounds on what others may use")
	cmd.Flags().StringVar(&files.audit, "audit", "", "the `FILE` to append decisions about other nodes to; - is stderr")
	return cmd
}

// serveFiles are the files of serve's own flags; "": none.
type serveFiles struct{ limits, audit string }

// checkListen refuses what cannot be an address to listen on.
func checkListen(addr string) error {
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		return usagef("--listen %q is no HOST:PORT", addr)
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return usagef("--listen %q: the port is no number from 0 to 65535", addr)
	}
	return nil
}

// pickServices completes and checks what is to be served.
func pickServices(cfg node.Config) ([]string, error) {
	services := slices.Compact(slices.Sorted(slices.Values(cfg.Services)))
	if len(services) == 0 {
		services = []string{echo.Name}
		if cfg.Dir != "" {
			services = append(services, files.Name)
		}
	}
	if slices.Contains(services, files.Name) && cfg.Dir == "" {
		return nil, usagef("the service %q needs --dir DIR: where are the files to go?", files.Name)
	}
	if cfg.Dir != "" && !slices.Contains(services, files.Name) {
		return nil, usagef("--dir is for the service %q, which is not among --service", files.Name)
	}
	return services, nil
}

func (a *app) serve(ctx context.Context, cfg node.Config, files serveFiles) error {
	var err error
	if cfg.Services, err = pickServices(cfg); err != nil {
		return err
	}
	if err := checkListen(cfg.Listen); err != nil {
		return err
	}
	if files.limits != "" {
		if cfg.Limits, err = readLimits(files.limits); err != nil {
			return err
		}
	}
	cfg.Logger = a.logger()
	if files.audit != "" {
		var audit io.Closer
		if cfg.Audit, audit, err = a.openAudit(files.audit, cfg.Logger); err != nil {
			return err
		}
		defer audit.Close()
	}
	key, err := a.loadKey()
	if err != nil {
		return err
	}
	defer key.Close()
	if cfg, err = a.withTrust(cfg, key); err != nil {
		return err
	}
	return a.serveNode(ctx, cfg)
}

// withTrust completes what serve's flags say.
func (a *app) withTrust(cfg node.Config, key *node.Key) (node.Config, error) {
	all, err := a.nodeConfig(key)
	all.Listen, all.Services, all.Dir = cfg.Listen, cfg.Services, cfg.Dir
	all.Limits, all.Audit, all.Logger = cfg.Limits, cfg.Audit, cfg.Logger
	if a.trust.mode == trustNew {
		all.TrustNew = a.newKeys() // a node that serves has nobody to ask
	}
	return all, err
}

func (a *app) serveNode(ctx context.Context, cfg node.Config) error {
	n, err := node.New(cfg)
	if e, ok := errors.AsType[*net.DNSError](err); ok {
		return usagef("--listen %q: %v", cfg.Listen, e)
	}
	if err != nil {
		return err
	}
	a.checkAuthorized(cfg)
	cfg.Logger.Info("serving", "services", strings.Join(cfg.Services, ","), "addr", n.Addr(), "authorized", cfg.Authorized)
	err = a.print(serveResult{URL: n.URL(), ID: n.ID().String(), Services: cfg.Services})
	if err == nil {
		<-ctx.Done()
		cfg.Logger.Info("draining")
	}
	if e := n.Close(); e != nil {
		// A peer that vanished with data under way must not make an orderly
		// end look like a failure.
		cfg.Logger.Warn("not everything was delivered", "err", e)
	}
	return err
}

// checkAuthorized logs now what the first guest would meet: bad lines, and a
// file that is not used. The policy reads the file for itself.
func (a *app) checkAuthorized(cfg node.Config) {
	if _, err := identity.OpenAuthorizedFile(cfg.Authorized, cfg.Logger); err != nil {
		return // it has logged why
	}
	if _, err := os.Stat(cfg.Authorized); err != nil && a.authorized != "" {
		cfg.Logger.Warn("nobody but this node's own key is let in until that is there", "authorized", cfg.Authorized, "err", err)
	}
	if _, err := os.Stat(cfg.Revoked); err != nil && a.trust.revoked != "" {
		cfg.Logger.Warn("no key is revoked until that is there", "revoked", cfg.Revoked, "err", err)
	}
}

func (a *app) logger() *slog.Logger {
	if a.asJSON {
		return slog.New(slog.NewJSONHandler(a.stderr, nil))
	}
	return slog.New(slog.NewTextHandler(a.stderr, nil))
}

type serveResult struct {
	URL      string   `json:"url"`
	ID       string   `json:"id"`
	Services []string `json:"services"`
}

func (r serveResult) text(w io.Writer) error {
	_, err := fmt.Fprintln(w, r.URL)
	return err
}
