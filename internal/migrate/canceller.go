// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

package migrate

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

const (
	cancelPause = 400 * time.Millisecond
	// cancelDelay is how long after its request a cancellation may still arrive. It must not hit what is executed next.
	cancelDelay = 100 * time.Millisecond
)

// canceller asks the database to cancel the statement of a cancelled context, so that the connection lives on. Unlike pgx's own handler
// it asks again: a request that comes before its statement is without effect.
type canceller struct {
	conn *pgconn.PgConn
	stop context.CancelFunc
	done chan struct{}
}

// HandleCancel implements ctxwatch.Handler.
func (c *canceller) HandleCancel(context.Context) {
	deadline := time.Now().Add(cancelTimeout)
	_ = c.conn.Conn().SetDeadline(deadline)
	ctx, stop := context.WithDeadline(context.Background(), deadline)
	c.stop, c.done = stop, make(chan struct{})
	go func() {
		defer close(c.done)
		for ctx.Err() == nil {
			_ = c.conn.CancelRequest(ctx) // if it cannot be sent, the deadline ends the statement
			time.Sleep(cancelDelay)
			select {
			case <-ctx.Done():
			case <-time.After(cancelPause):
			}
		}
	}()
}

// HandleUnwatchAfterCancel implements ctxwatch.Handler.
func (c *canceller) HandleUnwatchAfterCancel() {
	c.stop()
	<-c.done
	_ = c.conn.Conn().SetDeadline(time.Time{})
}
