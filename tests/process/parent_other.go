// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

//go:build unix && !linux

package process

import "syscall"

// dieWithParent does nothing here: only Linux can tell a process that its
// parent is gone.
func dieWithParent(*syscall.SysProcAttr, syscall.Signal) {}
