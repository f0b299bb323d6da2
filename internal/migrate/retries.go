// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

package migrate

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"time"
)

const (
	// maxLockRetries is how often something is tried again in a run that could not have a lock: with the pauses between, for some three minutes.
	maxLockRetries = 10
	retryPause     = time.Second
	maxRetryPause  = 30 * time.Second
)

// retries try again what could not have a lock in time, after a pause in which those get on with their work who queue up behind it.
type retries struct {
	pause time.Duration // before the first; each is twice as long as the one before
	count *int32
	log   *slog.Logger
}

// do does something, again where it fails in a way that is worth it, up to a limit for the whole run.
func (r *retries) do(ctx context.Context, what string, again func(error) bool, try func() error) error {
	for pause := r.pause; ; pause = min(2*pause, maxRetryPause) {
		err := try()
		if err == nil || ctx.Err() != nil || !again(err) || *r.count == maxLockRetries {
			return err
		}
		*r.count++
		wait := pause/2 + rand.N(pause) //nolint:gosec // chance, not secrecy, keeps several clients apart
		r.log.Warn("a lock could not be had in time; trying again", "what", what, "retry", *r.count, "of", maxLockRetries, "waitSeconds", wait.Seconds(), "error", err.Error())
		select {
		case <-ctx.Done():
			return &cutShort{err, ctx.Err()}
		case <-time.After(wait):
		}
	}
}

// cutShort is the error of a try that no other followed, because the run was told to end: the history gets the database's words, and the result the reason.
type cutShort struct {
	error
	cause error
}

func (c *cutShort) Unwrap() error { return c.cause }
