// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

// Package runner builds the runner, for tests that run it as a process of its own.
package runner

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"

	// go test does not see what the binary is built from: with these imports a change there makes cached results void.
	_ "github.com/subganapathy/automatic-db-upgrades/internal/fetch"
	_ "github.com/subganapathy/automatic-db-upgrades/internal/migrate"
)

// Build puts the runner's binary into a directory and returns its path.
func Build(dir string) (string, error) {
	_, here, _, _ := runtime.Caller(0)
	source := filepath.Join(filepath.Dir(here), "..", "..", "cmd", "runner")
	if _, err := os.Stat(filepath.Join(source, "main.go")); err != nil { // likewise: a main package cannot be imported
		return "", err
	}
	path := filepath.Join(dir, "runner")
	out, err := exec.Command("go", "build", "-o", path, source).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("build the runner: %w\n%s", err, out)
	}
	return path, nil
}
