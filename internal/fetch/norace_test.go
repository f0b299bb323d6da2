// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

//go:build !race

package fetch

const raceFactor = 1
