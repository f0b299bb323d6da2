// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

// Package result is the contract between the runner, which writes a termination message and an exit code, and the manager, which reads them.
package result

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/subganapathy/automatic-db-upgrades/api/v1alpha1"
)

// MaxBytes is the size of the largest result. The kubelet keeps 4096 bytes of a container's termination message, and 12288 of all containers of a pod,
// shared out evenly: so the two of ours may have two more injected beside them before a result is cut.
const MaxBytes = 12288 / 4

// Bounds of the texts in a result, in characters. They follow the maxLength of the API.
const (
	maxName     = 256
	maxError    = 1024
	maxImage    = 1280
	maxFiles    = 32
	maxFindings = 16
	maxCode     = 32
	maxText     = 512

	// maxMessage is the longest termination message of one container, in bytes.
	maxMessage = 4096
)

// Result is what one step of a Job reports at its end, successful or not.
type Result struct {
	// Image that fetch read, as repository@digest.
	Image string `json:"image,omitempty"`
	// Migration is what migrate did; of fetch only its failure.
	Migration *v1alpha1.MigrationStatus `json:"migration,omitempty"`
}

// Failure of the step, nil where it succeeded.
func (r Result) Failure() *v1alpha1.Failure {
	if r.Migration == nil {
		return nil
	}
	return r.Migration.Failure
}

// Failed is the result of a step that ended with f.
func Failed(f v1alpha1.Failure) Result {
	return Result{Migration: &v1alpha1.MigrationStatus{Failure: &f}}
}

// Encode renders r in at most MaxBytes: texts are cut, and then of the longest list files are left out from the middle, or findings from the end, until
// the rest fits. The first and the last file stay, unless the rest alone is too much, and Truncated says that something went.
func (r Result) Encode() []byte {
	r = r.bounded()
	for {
		data := mustMarshal(r)
		if len(data) <= MaxBytes {
			return data
		}
		if !shorten(r.Migration) {
			return mustMarshal(r.minimal())
		}
	}
}

// shorten leaves one entry out of the longest list of m, which is changed. It returns false where there is none that may go.
func shorten(m *v1alpha1.MigrationStatus) bool {
	if m == nil {
		return false
	}
	const ends = 2
	applied, planned, findings := len(m.Applied)-ends, len(m.Planned)-ends, len(m.Findings)
	switch longest := max(applied, planned, findings); {
	case longest <= 0:
		return false
	case longest == findings:
		m.Findings = m.Findings[:findings-1]
	case longest == planned:
		m.Planned = cutMiddle(m.Planned, len(m.Planned)-1)
	default:
		m.Applied = cutMiddle(m.Applied, len(m.Applied)-1)
	}
	m.Truncated = true
	return true
}

// cutMiddle takes so much out of the middle of a list, which it changes, that limit entries are left.
func cutMiddle[T any](list []T, limit int) []T {
	extra := len(list) - limit
	if extra <= 0 {
		return list
	}
	return slices.Delete(list, limit/2, limit/2+extra)
}

// Parse reads what Encode wrote. It refuses anything else: a termination message may also hold the words of the container runtime.
func Parse(message string) (Result, error) {
	if len(message) > maxMessage {
		return Result{}, fmt.Errorf("result of %d bytes is longer than %d", len(message), maxMessage)
	}
	var r Result
	decoder := json.NewDecoder(strings.NewReader(message))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&r); err != nil {
		return Result{}, fmt.Errorf("termination message is not a result: %w", err)
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return Result{}, fmt.Errorf("termination message has text after its result")
	}
	if f := r.Failure(); f != nil {
		if _, known := byClass(f.Class); !known {
			return Result{}, fmt.Errorf("result has the unknown failure class %q", Cut(string(f.Class), maxName))
		}
	}
	return r.bounded(), nil
}

// bounded is a copy of r whose texts and lists keep to the API's bounds, with the worst findings first.
func (r Result) bounded() Result {
	var c cutter
	c.text(&r.Image, maxImage)
	if r.Migration == nil {
		return r
	}
	m := r.Migration.DeepCopy()
	c.text(&m.CurrentVersion, maxName)
	c.text(&m.TargetVersion, maxName)
	c.text(&m.DirectoryHash, 128)
	c.files(m)
	c.findings(m)
	if f := m.Failure; f != nil {
		f.Class = ClassOf(f.Class).Name
		c.text(&f.Version, maxName)
		c.text(&f.File, maxName)
		c.text(&f.SQLState, 5)
		c.text(&f.Error, maxError)
	}
	m.Truncated = m.Truncated || c.cut
	r.Migration = m
	return r
}

// cutter keeps what it is given to the API's bounds, and remembers whether that took anything away.
type cutter struct{ cut bool }

func (c *cutter) text(s *string, limit int) {
	short := Cut(*s, limit)
	c.cut = c.cut || utf8.RuneCountInString(short) < utf8.RuneCountInString(*s)
	*s = short
}

func (c *cutter) files(m *v1alpha1.MigrationStatus) {
	c.cut = c.cut || len(m.Applied) > maxFiles || len(m.Planned) > maxFiles
	m.Applied, m.Planned = cutMiddle(m.Applied, maxFiles), cutMiddle(m.Planned, maxFiles)
	for i := range m.Applied {
		c.text(&m.Applied[i].Version, maxName)
		c.text(&m.Applied[i].Description, maxName)
	}
	for i := range m.Planned {
		c.text(&m.Planned[i].Version, maxName)
		c.text(&m.Planned[i].Description, maxName)
	}
}

func (c *cutter) findings(m *v1alpha1.MigrationStatus) {
	for i := range m.Findings {
		f := &m.Findings[i]
		if f.Severity != v1alpha1.SeverityError {
			f.Severity = v1alpha1.SeverityWarning // the API knows no third
		}
		c.text(&f.File, maxName)
		c.text(&f.Code, maxCode)
		c.text(&f.Message, maxText)
	}
	slices.SortStableFunc(m.Findings, func(a, b v1alpha1.Finding) int { return cmp.Compare(a.Severity, b.Severity) }) // Error comes before Warning
	if len(m.Findings) > maxFindings {
		m.Findings, c.cut = m.Findings[:maxFindings], true
	}
}

// minimal keeps what a person needs most. Escapes can make a bounded text six times as long in JSON, so even the rest may be too much.
func (r Result) minimal() Result {
	short := Result{Image: Cut(r.Image, 160)}
	if r.Migration == nil {
		return short
	}
	short.Migration = &v1alpha1.MigrationStatus{
		CurrentVersion: Cut(r.Migration.CurrentVersion, 48), TargetVersion: Cut(r.Migration.TargetVersion, 48),
		Pending: r.Migration.Pending, Total: r.Migration.Total, LockRetries: r.Migration.LockRetries,
		DatabaseAhead: r.Migration.DatabaseAhead, Truncated: true,
	}
	if f := r.Migration.Failure; f != nil {
		short.Migration.Failure = &v1alpha1.Failure{
			Class: f.Class, Statement: f.Statement, SQLState: f.SQLState, File: Cut(f.File, 48), Version: Cut(f.Version, 48), Error: Cut(f.Error, 96),
		}
	}
	return short
}

// Cut shortens s to at most limit characters, marking the cut with an ellipsis, and replaces what is not UTF-8 or would control a terminal.
func Cut(s string, limit int) string {
	s = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, "\uFFFD"))
	if utf8.RuneCountInString(s) <= limit {
		return s
	}
	runes := []rune(s)
	return string(runes[:limit-1]) + "…"
}

func mustMarshal(r Result) []byte {
	var buf bytes.Buffer
	encoder := json.NewEncoder(&buf)
	encoder.SetEscapeHTML(false) // a message full of < and > would grow sixfold
	if err := encoder.Encode(r); err != nil {
		panic(fmt.Sprintf("result cannot be encoded: %v", err)) // plain strings and numbers always can
	}
	return bytes.TrimSuffix(buf.Bytes(), []byte("\n"))
}
