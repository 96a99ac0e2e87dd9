package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"ckt.local/circuit"
	"ckt.local/cmd/internal/node"
	"ckt.local/peer"
	"ckt.local/peer/echo"
	"ckt.local/transport/identity"
)

// The demo's two processes talk over the second one's stdin and stdout, a
// JSON value each: the URL comes unasked, then each demoCall has its
// demoAnswer. The end of stdin ends the second process, so it cannot outlive
// the first however that ends.
type (
	demoHello struct {
		URL string `json:"url"`
	}
	demoCall struct {
		Node identity.NodeID `json:"node"` // on which to start and call a peer of echo
	}
	demoAnswer struct {
		Peer   string  `json:"peer"`
		Bytes  int     `json:"bytes"`
		Millis float64 `json:"ms"`
		Err    string  `json:"error,omitempty"`
	}
)

// A demoChild is the second process, seen from the first.
type demoChild struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *json.Decoder
	url string
}

func startDemoChild(ctx context.Context, a *app, keyFile string, allow identity.NodeID, dir string) (*demoChild, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, self, "demo-node", "--key", keyFile, "--allow", allow.String(), "--dir", dir)
	cmd.Args[0] = filepath.Base(os.Args[0])
	cmd.Stderr = a.stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	cmd.Cancel = in.Close
	cmd.WaitDelay = 10 * time.Second // then it is killed
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	c := &demoChild{cmd: cmd, in: in, out: json.NewDecoder(out)}
	var hello demoHello
	if err := c.out.Decode(&hello); err != nil {
		return nil, errors.Join(fmt.Errorf("the second process does not start: %w", err), c.close())
	}
	c.url = hello.URL
	return c, nil
}

func (c *demoChild) pid() int { return c.cmd.Process.Pid }

// callBack makes the second process start and call a peer on the node id.
func (c *demoChild) callBack(id identity.NodeID) (demoAnswer, error) {
	var answer demoAnswer
	if err := json.NewEncoder(c.in).Encode(demoCall{Node: id}); err != nil {
		return answer, err
	}
	if err := c.out.Decode(&answer); err != nil {
		return answer, fmt.Errorf("the second process: %w", err)
	}
	if answer.Err != "" {
		return answer, fmt.Errorf("the second process: %s", answer.Err)
	}
	return answer, nil
}

func (c *demoChild) close() error {
	return errors.Join(ignoreClosed(c.in.Close()), c.cmd.Wait())
}

func ignoreClosed(err error) error {
	if errors.Is(err, os.ErrClosed) {
		return nil
	}
	return err
}

// demoNodeCmd is the second process.
func demoNodeCmd(a *app) *cobra.Command {
	var allow, dir string
	cmd := &cobra.Command{
		Use:     "demo-node",
		Short:   "The second node of demo",
		Example: "  peerctl demo",
		Hidden:  true,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			id, err := identity.ParseNodeID(allow)
			if err != nil {
				return &usageError{err: err}
			}
			return a.demoNode(cmd.Context(), id, dir)
		},
	}
	cmd.Flags().StringVar(&allow, "allow", "", "the node `ID` that may do everything")
	cmd.Flags().StringVar(&dir, "dir", "", "the `DIR` that files are received into")
	return cmd
}

func (a *app) demoNode(ctx context.Context, allow identity.NodeID, dir string) error {
	key, err := a.loadKey()
	if err != nil {
		return err
	}
	defer key.Close()
	n, err := node.New(node.Config{
		Listen: "127.0.0.1:0", Identity: key.Key, Allow: []identity.NodeID{allow},
		Services: node.Names(), Dir: dir,
	})
	if err != nil {
		return err
	}
	defer n.Close()
	if err := n.PeerAPI.RegisterPeerServiceFunc(clientService, turnAway); err != nil {
		return err
	}
	me, err := n.PeerAPI.StartLocalPeer(ctx, clientService)
	if err != nil {
		return err
	}
	out := json.NewEncoder(a.stdout)
	if err := out.Encode(demoHello{URL: n.URL()}); err != nil {
		return err
	}
	// Nothing can interrupt a read of stdin: the goroutine ends at its end,
	// or with the process.
	calls := make(chan demoCall)
	go func() {
		defer close(calls)
		in := json.NewDecoder(a.stdin)
		for {
			var call demoCall
			if in.Decode(&call) != nil {
				return
			}
			calls <- call
		}
	}()
	for {
		select {
		case <-ctx.Done():
			return nil
		case call, ok := <-calls:
			if !ok {
				return nil
			}
			if err := out.Encode(answerCall(ctx, n, me, call.Node)); err != nil {
				return err
			}
		}
	}
}

func answerCall(ctx context.Context, n *peer.Node, me *peer.LocalPeer, id identity.NodeID) demoAnswer {
	answer, err := callEcho(ctx, n, me, id)
	if err != nil {
		answer.Err = err.Error()
	}
	return answer
}

// callEcho starts a peer of echo on the node id, which is connected already,
// and sends it something.
func callEcho(ctx context.Context, n *peer.Node, me *peer.LocalPeer, id identity.NodeID) (demoAnswer, error) {
	const wait = 5 * time.Second
	var answer demoAnswer
	var err error
	if answer.Peer, _, err = n.PeerAPI.StartRemotePeer(ctx, echo.Name, id.String(), wait); err != nil {
		return answer, err
	}
	sent := []byte(rand.Text())
	start := time.Now()
	c, _, err := me.NewCircuitToPeerURL(answer.Peer, &circuit.Fragment{Payload: sent}, wait)
	if err != nil {
		return answer, err
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	for f, err := range c.Fragments(ctx) {
		if err != nil {
			return answer, err
		}
		answer.Bytes, answer.Millis = len(f.Payload), float64(time.Since(start))/float64(time.Millisecond)
		if !bytes.Equal(f.Payload, sent) {
			return answer, errors.New("what came back is not what was sent")
		}
		return answer, nil
	}
	return answer, errors.New("nothing came back")
}
