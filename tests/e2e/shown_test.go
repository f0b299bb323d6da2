//go:build e2e

// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"regexp"
	"strings"
	"testing"

	"github.com/onsi/ginkgo/v2"

	"github.com/subganapathy/automatic-db-upgrades/api/v1alpha1"
)

var _ = ginkgo.Describe("kubectl", func() {
	ginkgo.It("shows what a person needs", func() {
		tb := ginkgo.GinkgoTB()
		team := newTeam("shown")
		image := team.Image(tb, "v1", map[string]string{
			"20260101000000_orders.sql": "CREATE TABLE orders (id int);\n",
			"20260102000000_total.sql":  "CREATE TABLE totals ();\nALTER TABLE order_lines ADD COLUMN total int;\n",
		})
		team.Create(tb, "orders", image)
		obj := team.Ready(tb, "orders", v1alpha1.ReasonJobFailed)
		in := "--namespace=" + team.Namespace

		expectLine(tb, team.Kubectl(tb, "", "get", "dbu", in), `^NAME +READY +PROGRESSING +REASON +VERSION +AGE$`)
		expectLine(tb, team.Kubectl(tb, "", "get", "dbu", in), `^orders +False +False +JobFailed +20260101000000 +\w+$`)
		wide := team.Kubectl(tb, "", "get", "dbu", "--output=wide", in)
		expectLine(tb, wide, `^NAME +READY +PROGRESSING +REASON +VERSION +AGE +DEGRADED +OBSERVEDGEN$`)
		expectLine(tb, wide, `^orders +False +False +JobFailed +20260101000000 +\w+ +True +1$`)
		expectLine(tb, team.Kubectl(tb, "", "get", "all", in), `^dbupgrade.dbupgrade.subbug.learning/orders +False`)

		told := team.Kubectl(tb, "", "describe", "dbu", "orders", in)
		for _, want := range []string{
			`^ *Image: +` + regexp.QuoteMeta(strings.TrimSuffix(image, ":v1")) + `@sha256:[0-9a-f]{64}$`,
			`^ *File: +20260102000000_total.sql$`,
			`^ *Statement: +2$`,
			`^ *Sql State: +42P01$`,
			`^ *Error: +.*relation "order_lines" does not exist`,
			`^ *Current Version: +20260101000000$`,
			`^ *Target Version: +20260102000000$`,
			`^ *Warning +MigrationFailed .*20260102000000_total.sql, statement 2`,
			`^ *Warning +JobFailed .*20260102000000_total.sql, statement 2`,
		} {
			expectLine(tb, told, want)
		}
		if strings.Contains(told, "secret@") || strings.Contains(told, "postgres://") {
			tb.Errorf("the database's URL is told:\n%s", told)
		}

		log := team.Kubectl(tb, "", "logs", "job/"+obj.Status.Attempt.Job, "--all-containers", in)
		expectLine(tb, log, `"image resolved"`)
		expectLine(tb, log, `"statement failed".*"20260102000000_total.sql"`)
		expectLine(tb, team.Kubectl(tb, "", "explain", "dbu.spec.migrations.image"), `It is read, never run`)

		fixed := team.Image(tb, "v2", map[string]string{"20260101000000_orders.sql": "CREATE TABLE orders (id int);\n"})
		team.Update(tb, "orders", func(d *v1alpha1.DBUpgrade) { d.Spec.Migrations.Image = fixed })
		team.Kubectl(tb, "", "wait", "--for=condition=Ready", "dbu/orders", "--timeout=180s", in)
	})
})

// expectLine holds that a line of the text matches.
func expectLine(tb testing.TB, text, pattern string) {
	tb.Helper()
	if !regexp.MustCompile(`(?m)` + pattern).MatchString(text) {
		tb.Errorf("no line matches %s:\n%s", pattern, text)
	}
}
