//go:build !linux

package quic

import "net"

// coalesce is for Linux: elsewhere there is no receive offload of UDP that Go
// can have.
func coalesce(s *udpSocket) net.PacketConn { return s }
