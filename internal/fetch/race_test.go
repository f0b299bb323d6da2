// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

//go:build race

package fetch

// raceFactor is how much more memory the race detector makes of what is in use.
const raceFactor = 4
