// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

package result

import (
	"fmt"

	"github.com/subganapathy/automatic-db-upgrades/api/v1alpha1"
)

// Error is an error that knows what the result should say of it.
type Error struct{ v1alpha1.Failure }

func (e *Error) Error() string { return e.Failure.Error }

// Errorf makes an Error of a class.
func Errorf(class v1alpha1.FailureClass, format string, args ...any) *Error {
	return &Error{v1alpha1.Failure{Class: class, Error: fmt.Sprintf(format, args...)}}
}
