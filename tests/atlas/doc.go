// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

// Package atlas tests the runner against the Atlas CLI, with which it shares databases, and against being killed.
package atlas
