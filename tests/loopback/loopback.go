// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

// Package loopback listens on ports of 127.0.0.1 that a test can give up and
// take again, to play an outage.
package loopback

import (
	"fmt"
	"math/rand/v2"
	"net"
)

// The kernel hands out ports from 32768 upwards to outgoing connections. A
// server that is stopped on such a port may find it taken when it comes back,
// and a client that keeps dialling one can end up connected to itself.
const (
	firstPort = 16384
	lastPort  = 32767
)

// Listen listens on a free port of 127.0.0.1 below those that the kernel gives
// to outgoing connections.
func Listen() (net.Listener, error) {
	var last error
	for range 100 {
		port := firstPort + rand.IntN(lastPort-firstPort+1)
		listener, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err == nil {
			return listener, nil
		}
		last = err
	}
	return nil, fmt.Errorf("find a free port between %d and %d: %w", firstPort, lastPort, last)
}
