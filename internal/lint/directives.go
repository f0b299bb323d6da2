// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

package lint

import (
	"regexp"
	"slices"
	"strings"

	"github.com/subganapathy/automatic-db-upgrades/internal/directory"
)

// silencer is what nolint directives say.
type silencer struct {
	all bool
	by  []string // codes and classes
}

func (s silencer) silences(code string) bool {
	return s.all || slices.Contains(s.by, code) || slices.Contains(s.by, string(ruleOf(code).class))
}

func (s silencer) and(other silencer) silencer {
	return silencer{all: s.all || other.all, by: slices.Concat(s.by, other.by)}
}

// remark is a comment of a file.
type remark struct {
	raw  string
	line int32
	// alone tells that nothing stands before it on its line.
	alone bool
}

// check looks at a file: at the directives in its comments, and at each statement with what they say of it.
func (l *linter) check() {
	source, stmts := string(l.file.Bytes()), l.file.Statements()
	line, lineFrom, last := int32(1), 0, 0 // the line of an offset, and the end of the last statement
	lineAt := func(at int) int32 {
		line += int32(strings.Count(source[lineFrom:at], "\n"))
		lineFrom = at
		return line
	}
	// between are the comments up to an offset: those that are about nothing, and those that belong to what begins there, with no empty line on the way.
	between := func(to int) ([]remark, []remark) {
		var apart, found []remark
		lex := newLexer(l.Dialect, source[:to])
		lex.at = last
		for before, more := last, true; more; before = lex.at {
			t := lex.next()
			more = t.kind != end
			space := source[before:t.at]
			if emptyLine.MatchString(space) || more && t.kind != comment {
				apart, found = append(apart, found...), nil
			}
			if t.kind == comment {
				found = append(found, remark{t.raw, lineAt(t.at), before == 0 || strings.Contains(space, "\n")})
			}
		}
		return apart, found
	}
	mentioned := strings.Contains(strings.ToLower(source), "atlas")
	var whole silencer
	for i, s := range stmts {
		start := min(max(last, s.Pos), len(source))
		apart, own := between(start)
		if top := l.directives(apart, i == 0); i == 0 {
			whole = top
		}
		l.silenced = whole.and(l.directives(own, true))
		l.statement, l.line = s.Text, lineAt(start)
		last = min(start+len(s.Text), len(source))
		if mentioned {
			l.inside()
		}
		l.look(s.Text)
	}
	apart, own := between(len(source))
	l.directives(slices.Concat(apart, own), len(stmts) == 0)
}

var emptyLine = regexp.MustCompile(`\n[ \t\r]*\n`)

// directive is what a comment tells Atlas, or seems to.
type directive struct {
	name, args string
	// exact tells that it is written as it has to be.
	exact bool
}

var (
	exactDirective = regexp.MustCompile(`^atlas:(\w+)(?: +(.*))?$`)
	looseDirective = regexp.MustCompile(`(?i)^atlas(?::\S|(?:\s*:\s*|[\s_-]+)(?:tx[\s_-]?mode|no[\s_-]?lint|delimiter|checkpoint)\b)`)
)

// directiveOf reads a comment.
func directiveOf(raw string) (directive, bool) {
	raw = strings.TrimPrefix(strings.TrimPrefix(raw, "--"), "#")
	if rest, ok := strings.CutPrefix(raw, "/*"); ok {
		raw = strings.TrimSuffix(rest, "*/")
	}
	raw = strings.TrimSpace(raw)
	if m := exactDirective.FindStringSubmatch(raw); m != nil {
		return directive{m[1], strings.TrimSpace(m[2]), true}, true
	}
	if looseDirective.MatchString(raw) {
		return directive{}, true
	}
	return directive{}, false
}

// down begins what is executed on the way back in the files of goose and dbmate.
var down = regexp.MustCompile(`(?i)^--\s*(?:\+goose\s+down|migrate:down)\b`)

// directives reads those in comments, and returns what they silence. Where a nolint can be about nothing, that is said.
func (l *linter) directives(comments []remark, silencing bool) silencer {
	var s silencer
	for _, c := range comments {
		if down.MatchString(c.raw) {
			break
		}
		d, ok := l.directive(c)
		switch {
		case !ok:
		case d.name != "nolint":
			if !c.alone || strings.HasPrefix(c.raw, "/*") || slices.Contains(l.file.Strays, directory.Stray{Line: int(c.line), Name: d.name}) {
				l.add("DU101", c.line, "The directive atlas:%s has no effect here: write it on a line of its own, as '-- atlas:%s', at the very top of the file", d.name, d.name)
			}
		case silencing && c.alone:
			s = s.and(l.silence(c, d))
		default:
			l.add("DU101", c.line, "The directive atlas:nolint has no effect here: put it on a line of its own right above the statement, without an empty line between them")
		}
	}
	return s
}

// inside looks for directives in the comments within the statement.
func (l *linter) inside() {
	lex := newLexer(l.Dialect, l.statement)
	for t := lex.next(); t.kind != end; t = lex.next() {
		if t.kind == comment {
			l.directives([]remark{{raw: t.raw, line: l.line + int32(strings.Count(l.statement[:t.at], "\n"))}}, false)
		}
	}
}

// atlasDirectives are those that a file may hold.
var atlasDirectives = []string{"txmode", "nolint", "delimiter", "sum", "checkpoint", "import"}

// directive reads a comment, and complains about what looks like a directive and is none.
func (l *linter) directive(c remark) (directive, bool) {
	d, ok := directiveOf(c.raw)
	switch {
	case !ok:
		return d, false
	case d.exact && slices.Contains(atlasDirectives, d.name):
		return d, true
	case d.exact:
		l.add("DU102", c.line, "The directive atlas:%s is not known here and has no effect; known are %s", short(d.name), strings.Join(atlasDirectives, ", "))
	default:
		l.add("DU102", c.line, "This comment looks like a directive and is none: write it as '-- atlas:txmode none' or '-- atlas:nolint CODE'")
	}
	return d, false
}

// elsewhere are codes and names of Atlas that are no rules here, but may be silenced for its own lint.
var elsewhere = []string{"MF102", "PG110", "PG303", "PG304", "MY110", "MY111", "MY112", "MY113", "MY120", "MY121", "MY122", "MY123", "LT101", "non_linear"}

// silence reads what a nolint directive silences.
func (l *linter) silence(c remark, d directive) silencer {
	s := silencer{by: strings.Fields(d.args)}
	s.all = len(s.by) == 0
	for _, by := range s.by {
		if !silenceable(by) && !slices.Contains(elsewhere, by) {
			l.add("DU103", c.line, "atlas:nolint names %q, which is no rule or class that can be silenced: names are separated by spaces", short(by))
		}
	}
	return s
}
