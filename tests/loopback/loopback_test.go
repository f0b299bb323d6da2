// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

package loopback

import (
	"net"
	"testing"
)

func TestPortCanBeTakenAgain(t *testing.T) {
	first, err := Listen()
	if err != nil {
		t.Fatal(err)
	}
	address := first.Addr().(*net.TCPAddr)
	if !address.IP.IsLoopback() || address.Port < firstPort || address.Port > lastPort {
		t.Errorf("listening on %s", address)
	}
	if second, err := net.Listen("tcp", address.String()); err == nil {
		_ = second.Close()
		t.Error("two listeners share a port")
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	again, err := net.Listen("tcp", address.String())
	if err != nil {
		t.Fatalf("take the port again: %v", err)
	}
	_ = again.Close()
}
