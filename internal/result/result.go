// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

// Package result is the contract between the runner, which writes a termination message and an exit code, and the manager, which reads them.
package result

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
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
	maxName  = 256
	maxError = 1024
	maxImage = 1280
	maxFiles = 32

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

// Encode renders r in at most MaxBytes: texts are cut, and applied files are left out from the middle until the rest fits.
// The first and the last file stay, unless the rest alone is too much, and Truncated says that something went.
func (r Result) Encode() []byte {
	r = r.bounded()
	for {
		data := mustMarshal(r)
		if len(data) <= MaxBytes {
			return data
		}
		m := r.Migration
		if m == nil || len(m.Applied) <= 2 {
			return mustMarshal(r.minimal())
		}
		middle := len(m.Applied) / 2
		m.Applied = append(m.Applied[:middle:middle], m.Applied[middle+1:]...)
		m.Truncated = true
	}
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

// bounded is a copy of r whose texts and lists keep to the API's bounds.
func (r Result) bounded() Result {
	cutTo := func(s *string, limit int, cut *bool) {
		short := Cut(*s, limit)
		*cut = *cut || utf8.RuneCountInString(short) < utf8.RuneCountInString(*s)
		*s = short
	}
	var cut bool
	cutTo(&r.Image, maxImage, &cut)
	if r.Migration == nil {
		return r
	}
	m := r.Migration.DeepCopy()
	cutTo(&m.CurrentVersion, maxName, &cut)
	cutTo(&m.TargetVersion, maxName, &cut)
	cutTo(&m.DirectoryHash, 128, &cut)
	for i := range m.Applied {
		cutTo(&m.Applied[i].Version, maxName, &cut)
		cutTo(&m.Applied[i].Description, maxName, &cut)
	}
	if extra := len(m.Applied) - maxFiles; extra > 0 {
		m.Applied = append(m.Applied[:maxFiles/2:maxFiles/2], m.Applied[maxFiles/2+extra:]...)
		cut = true
	}
	if f := m.Failure; f != nil {
		f.Class = ClassOf(f.Class).Name
		cutTo(&f.Version, maxName, &cut)
		cutTo(&f.File, maxName, &cut)
		cutTo(&f.SQLState, 5, &cut)
		cutTo(&f.Error, maxError, &cut)
	}
	m.Truncated = m.Truncated || cut
	r.Migration = m
	return r
}

// minimal keeps what a person needs most. Escapes can make a bounded text six times as long in JSON, so even the rest may be too much.
func (r Result) minimal() Result {
	short := Result{Image: Cut(r.Image, 160)}
	if r.Migration == nil {
		return short
	}
	short.Migration = &v1alpha1.MigrationStatus{
		CurrentVersion: Cut(r.Migration.CurrentVersion, 48), TargetVersion: Cut(r.Migration.TargetVersion, 48),
		Pending: r.Migration.Pending, Total: r.Migration.Total, DatabaseAhead: r.Migration.DatabaseAhead, Truncated: true,
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
