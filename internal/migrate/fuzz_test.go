// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

package migrate

import (
	"errors"
	"strings"
	"testing"

	"ariga.io/atlas/sql/migrate"

	"github.com/subganapathy/automatic-db-upgrades/api/v1alpha1"
)

// Whatever a URL looks like, what stands where its password belongs is in no error.
func FuzzParseTarget(f *testing.F) {
	for _, rest := range []string{"", "@localhost/db", "@localhost:port/db", "/@localhost", "@[::1/db", "@h/db?sslmode=maybe", "@h/db?search_path=a,b", "@h/db?connect_timeout=x", "%zz@h/db", "@h1,h2:1,3/db"} {
		f.Add(rest)
	}
	const password = "pAssW0rdMarker"
	f.Fuzz(func(t *testing.T, rest string) {
		raw := "postgres://user:" + password + rest
		_, err := parseTarget(raw)
		if err == nil {
			return
		}
		if text := newScrubber(raw).Replace(err.Error()); strings.Contains(text, password) {
			t.Errorf("%q is in %q", password, text)
		}
		var known *failure
		if !errors.As(err, &known) || known.Class != v1alpha1.DatabaseUnreachable {
			t.Errorf("error is %#v", err)
		}
	})
}

// Whatever a file holds, it is read as statements or refused.
func FuzzParseFile(f *testing.F) {
	for _, content := range []string{"", "SELECT 1;", none + "SELECT 'a;b';", "-- atlas:sum ignore\n\nSELECT 1;", "-- atlas:delimiter \\n\\n\nSELECT 1;\n\nCOMMIT", "CREATE FUNCTION f() AS $$ BEGIN END $$;", "BEGIN ATOMIC", "DELIMITER //\nSELECT 1//", "(", "/*", "'", "$a$"} {
		f.Add(content)
	}
	f.Fuzz(func(t *testing.T, content string) {
		local := migrate.NewLocalFile("1.sql", []byte(content))
		sum, err := migrate.NewHashFile([]migrate.File{local})
		if err != nil {
			t.Fatal(err)
		}
		d := &directory{byVer: map[string]*file{}, sum: sum}
		err = d.parse(local)
		if err == nil {
			err = d.byVer["1"].executable()
		}
		var known *failure
		if err != nil && (!errors.As(err, &known) || known.Class != v1alpha1.IntegrityFailed || known.File != "1.sql") {
			t.Errorf("error is %#v", err)
		}
	})
}
