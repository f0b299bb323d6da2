// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

package migrate

import (
	"errors"
	"strings"
	"testing"

	"github.com/subganapathy/automatic-db-upgrades/api/v1alpha1"
	"github.com/subganapathy/automatic-db-upgrades/internal/result"
)

// Whatever a URL looks like, what stands where its password belongs is in no error.
func FuzzParseTarget(f *testing.F) {
	for _, rest := range []string{"", "@localhost/db", "@localhost:port/db", "/@localhost", "@[::1/db", "@h/db?sslmode=maybe", "@h/db?search_path=a,b", "@h/db?connect_timeout=x", "%zz@h/db", "@h1,h2:1,3/db"} {
		f.Add(rest, false)
		f.Add(rest, true)
	}
	const password = "pAssW0rdMarker"
	f.Fuzz(func(t *testing.T, rest string, isMySQL bool) {
		raw := "postgres://user:" + password + rest
		if isMySQL {
			raw = "mysql://user:" + password + rest
		}
		_, err := parseTarget(raw, TLS{})
		if err == nil {
			return
		}
		if text := newScrubber(raw).Replace(err.Error()); strings.Contains(text, password) {
			t.Errorf("%q is in %q", password, text)
		}
		var known *result.Error
		if !errors.As(err, &known) || known.Class != v1alpha1.DatabaseUnreachable {
			t.Errorf("error is %#v", err)
		}
	})
}
