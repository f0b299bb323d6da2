// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

// Package webhooks refuses at admission what the schema of the API cannot say, and keeps the certificates that this is served with.
//
// Nothing rests on it: with the webhook away, the schema still holds, the edit gate is a CEL rule too, and the reconciler reports what it
// cannot work with. It is called as rarely as that allows: not for a change that leaves the spec alone, not for an object that is being
// deleted, and of deletions only for those in the foreground, so that a webhook that is down never keeps an object from going away.
package webhooks
