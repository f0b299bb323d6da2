// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"

	"golang.org/x/term"

	"github.com/subganapathy/automatic-db-upgrades/internal/result"
)

// newLog writes JSON lines, or to a terminal what a person can read.
func newLog(w io.Writer, step string) *slog.Logger {
	if file, ok := w.(*os.File); ok && term.IsTerminal(int(file.Fd())) {
		return slog.New(&progress{w: w, mu: &sync.Mutex{}})
	}
	return slog.New(slog.NewJSONHandler(w, nil)).With("step", step)
}

// progress is a log for people: time, what happened, and the rest as words.
type progress struct {
	w     io.Writer
	mu    *sync.Mutex
	attrs []slog.Attr
}

// Enabled implements slog.Handler.
func (p *progress) Enabled(_ context.Context, level slog.Level) bool { return level >= slog.LevelInfo }

// WithAttrs implements slog.Handler.
func (p *progress) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &progress{w: p.w, mu: p.mu, attrs: slices.Concat(p.attrs, attrs)}
}

// WithGroup implements slog.Handler; nothing here uses groups.
func (p *progress) WithGroup(string) slog.Handler { return p }

// Handle implements slog.Handler.
func (p *progress) Handle(_ context.Context, r slog.Record) error {
	var line strings.Builder
	fmt.Fprintf(&line, "%s  %s%s", r.Time.Format("15:04:05"), marks[r.Level], r.Message)
	write := func(a slog.Attr) bool {
		if text := a.Value.String(); text != "" {
			fmt.Fprintf(&line, "  %s %s", words(a.Key), printable(text))
		}
		return true
	}
	for _, a := range p.attrs {
		write(a)
	}
	r.Attrs(write)
	line.WriteByte('\n')
	p.mu.Lock()
	defer p.mu.Unlock()
	_, err := io.WriteString(p.w, line.String())
	return err
}

var marks = map[slog.Level]string{slog.LevelWarn: "warning: ", slog.LevelError: "ERROR: "}

// words are those of a key: waitedSeconds is "waited seconds".
func words(key string) string {
	var b strings.Builder
	for _, r := range key {
		if r >= 'A' && r <= 'Z' {
			b.WriteByte(' ')
		}
		b.WriteRune(r)
	}
	return strings.ToLower(b.String())
}

// printable keeps what a database or an image says from moving the cursor.
func printable(text string) string { return result.Cut(text, 2000) }
