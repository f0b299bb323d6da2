// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

package lint

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/subganapathy/automatic-db-upgrades/api/v1alpha1"
	"github.com/subganapathy/automatic-db-upgrades/internal/directory"
)

// The table in docs/lint.md has every rule with its class and severity, and no other; each has a section with an example, of which the rule says something.
func TestDocumented(t *testing.T) {
	text, err := os.ReadFile("../../docs/lint.md")
	if err != nil {
		t.Fatal(err)
	}
	var documented []rule
	for _, m := range regexp.MustCompile("(?m)^\\| ([A-Z]{2}\\d{3}) \\| (?:`(\\w+)`)? *\\| (Error|Warning) \\|").FindAllStringSubmatch(string(text), -1) {
		documented = append(documented, rule{m[1], class(m[2]), v1alpha1.Severity(m[3])})
	}
	byCode := func(a, b rule) int { return strings.Compare(a.code, b.code) }
	want := slices.SortedFunc(slices.Values(rules), byCode)
	slices.SortFunc(documented, byCode)
	if diff := cmp.Diff(want, documented, cmp.AllowUnexported(rule{})); diff != "" {
		t.Errorf("code and docs/lint.md differ:\n%s", diff)
	}
}

// Each example in docs/lint.md is a fence with the codes that it is found guilty of; the one after it, if it is marked as ok, of none.
func TestExamples(t *testing.T) {
	text, err := os.ReadFile("../../docs/lint.md")
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	fence := regexp.MustCompile("(?ms)^```sql\n-- (PostgreSQL|MySQL): ([A-Z0-9, ]+|ok)\n(.*?)^```")
	for _, m := range fence.FindAllStringSubmatch(string(text), -1) {
		d := directory.Postgres
		if m[1] == "MySQL" {
			d = directory.MySQL
		}
		got := []string{}
		for _, f := range Run(Options{Dialect: d}, readFiles(t, d, map[string]string{"1.sql": m[3]})) {
			got = append(got, f.Code)
			seen[f.Code] = true
		}
		want := []string{}
		if m[2] != "ok" {
			want = regexp.MustCompile(`[A-Z0-9]+`).FindAllString(m[2], -1)
		}
		slices.Sort(got)
		slices.Sort(want)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("example\n%s%s", m[3], diff)
		}
	}
	for _, r := range rules {
		if !seen[r.code] && r.class != naming && r.code != "DU111" && r.code != "DU112" { // these need a configuration
			t.Errorf("docs/lint.md has no example of %s", r.code)
		}
	}
}
