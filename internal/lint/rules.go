// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

package lint

import (
	"slices"

	"github.com/subganapathy/automatic-db-upgrades/api/v1alpha1"
)

// class is a group of rules that is configured and silenced together. The first six are Atlas's analyzers.
type class string

const (
	destructive     class = "destructive"
	dataDepend      class = "data_depend"
	incompatible    class = "incompatible"
	condrop         class = "condrop"
	concurrentIndex class = "concurrent_index"
	naming          class = "naming"
	modifyCheck     class = "modify_check"
	blocking        class = "blocking"
	execution       class = "execution"
	// directives are the rules about directives and configuration. They cannot be silenced by what they are about.
	directives class = ""
)

// rule is one kind of finding.
type rule struct {
	code     string
	class    class
	severity v1alpha1.Severity
}

// rules are all of them. Codes that do not begin with DU are Atlas's and mean what they mean there.
var rules = []rule{
	{"DS101", destructive, v1alpha1.SeverityError},
	{"DS102", destructive, v1alpha1.SeverityError},
	{"DS103", destructive, v1alpha1.SeverityError},
	{"DU201", destructive, v1alpha1.SeverityError},
	{"DU202", destructive, v1alpha1.SeverityError},
	{"DU203", destructive, v1alpha1.SeverityWarning},
	{"DU204", destructive, v1alpha1.SeverityError},
	{"MF101", dataDepend, v1alpha1.SeverityWarning},
	{"MF103", dataDepend, v1alpha1.SeverityError},
	{"MF104", dataDepend, v1alpha1.SeverityWarning},
	{"MY101", dataDepend, v1alpha1.SeverityError},
	{"BC101", incompatible, v1alpha1.SeverityError},
	{"BC102", incompatible, v1alpha1.SeverityError},
	{"CD101", condrop, v1alpha1.SeverityWarning},
	{"PG101", concurrentIndex, v1alpha1.SeverityError},
	{"PG102", concurrentIndex, v1alpha1.SeverityWarning},
	{"PG103", concurrentIndex, v1alpha1.SeverityError},
	{"PG104", concurrentIndex, v1alpha1.SeverityError},
	{"PG105", concurrentIndex, v1alpha1.SeverityError},
	{"DU331", concurrentIndex, v1alpha1.SeverityWarning},
	{"NM101", naming, v1alpha1.SeverityWarning},
	{"NM102", naming, v1alpha1.SeverityWarning},
	{"NM103", naming, v1alpha1.SeverityWarning},
	{"NM104", naming, v1alpha1.SeverityWarning},
	{"NM105", naming, v1alpha1.SeverityWarning},
	{"NM106", naming, v1alpha1.SeverityWarning},
	{"PG301", modifyCheck, v1alpha1.SeverityError},
	{"DU301", modifyCheck, v1alpha1.SeverityWarning},
	{"DU302", modifyCheck, v1alpha1.SeverityWarning},
	{"PG302", blocking, v1alpha1.SeverityError},
	{"PG305", blocking, v1alpha1.SeverityError},
	{"DU311", blocking, v1alpha1.SeverityError},
	{"DU312", blocking, v1alpha1.SeverityWarning},
	{"DU313", blocking, v1alpha1.SeverityWarning},
	{"DU321", blocking, v1alpha1.SeverityError},
	{"DU322", blocking, v1alpha1.SeverityError},
	{"DU323", blocking, v1alpha1.SeverityError},
	{"MY102", execution, v1alpha1.SeverityWarning},
	{"DU401", execution, v1alpha1.SeverityWarning},
	{"DU402", execution, v1alpha1.SeverityError},
	{"DU403", execution, v1alpha1.SeverityError},
	{"DU101", directives, v1alpha1.SeverityError},
	{"DU102", directives, v1alpha1.SeverityError},
	{"DU103", directives, v1alpha1.SeverityWarning},
	{"DU111", directives, v1alpha1.SeverityError},
	{"DU112", directives, v1alpha1.SeverityWarning},
}

// ruleOf finds a rule by its code.
func ruleOf(code string) rule {
	i := slices.IndexFunc(rules, func(r rule) bool { return r.code == code })
	if i < 0 {
		panic("lint: no rule " + code)
	}
	return rules[i]
}

// silenceable tells whether something is a code or class that nolint may name.
func silenceable(by string) bool {
	return slices.ContainsFunc(rules, func(r rule) bool { return r.class != directives && (r.code == by || string(r.class) == by) })
}
