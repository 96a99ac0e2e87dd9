// Command peerctl runs a node, and does from the command line what ckt's peers
// do: start peers on other nodes, open circuits to them, stream data and files.
package main

import "os"

func main() { os.Exit(run(os.Args[1:])) }
