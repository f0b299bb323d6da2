// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

// Package lint finds what is to be said against migrations by reading their statements, without a database.
//
// Each file is read once by a lexer that knows the strings, quotes and comments of its dialect. On the way it finds the directives in comments, and the line of
// each statement; the statements themselves are those that directory has made, which are the ones that will be executed. A statement whose first word can
// matter is then split into tokens and read by hand, as far as a rule needs: an ALTER TABLE action by action. Whatever is not understood is passed over; no
// input makes it fail. State is kept of what the files create, since what is new has no rows to lose, no queries to block and no old pods that use it.
//
// Rules are in one table (rules.go) with their severities, which the lint block of an .atlas.hcl can change.
package lint
