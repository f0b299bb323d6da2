// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

package lint

import (
	"log/slog"
	"slices"

	"github.com/subganapathy/automatic-db-upgrades/api/v1alpha1"
	"github.com/subganapathy/automatic-db-upgrades/internal/result"
)

// Log writes every finding.
func Log(findings []v1alpha1.Finding, log *slog.Logger) {
	for _, f := range findings {
		log.Warn("finding", "file", f.File, "line", f.Line, "code", f.Code, "severity", string(f.Severity), "message", f.Message)
	}
}

// Enforce is the failure that findings stand for where errors among them are not tolerated; nil where there are none.
func Enforce(findings []v1alpha1.Finding) *result.Error {
	first := slices.IndexFunc(findings, func(f v1alpha1.Finding) bool { return f.Severity == v1alpha1.SeverityError })
	if first < 0 {
		return nil
	}
	worst := findings[first]
	err := result.Errorf(v1alpha1.LintFailed, "nothing was executed, as there are errors among the findings; the first: %s:%d: %s: %s",
		worst.File, worst.Line, worst.Code, worst.Message)
	err.File = worst.File
	return err
}
