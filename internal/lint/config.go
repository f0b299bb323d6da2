// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

package lint

import (
	"cmp"
	"regexp"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/gohcl"
	"github.com/hashicorp/hcl/v2/hclsyntax"

	"github.com/subganapathy/automatic-db-upgrades/api/v1alpha1"
)

// configName is the name of the file in a directory of migrations that configures lint.
const configName = ".atlas.hcl"

// maxConfig is how many bytes of configuration are read. The parser calls itself for what is nested, and a stack is no place for megabytes.
const maxConfig = 64 << 10

// config is what the lint block of an .atlas.hcl says.
type config struct {
	// errors tell for a class whether its findings are errors.
	errors map[class]bool
	// off are the codes that are switched off.
	off []string
	// names are the patterns of names, by the kind of what is named; "" is for all kinds without one of their own.
	names map[string]pattern
}

// pattern is what names must match.
type pattern struct {
	match   *regexp.Regexp
	message string
}

// severity of a rule's findings. Those about columns that are changed or go away belong to modify_check too, and the stricter one counts.
func (c *config) severity(code string) v1alpha1.Severity {
	r := ruleOf(code)
	isError, configured := c.errors[r.class]
	changesColumn := code == "DS103" || code == "BC102"
	switch {
	case changesColumn && c.errors[modifyCheck], configured && isError:
		return v1alpha1.SeverityError
	case configured:
		return v1alpha1.SeverityWarning
	default:
		return r.severity
	}
}

// configReader reads a configuration. What it cannot use becomes a finding: a policy that somebody wrote down is not ignored in silence.
type configReader struct {
	config   config
	findings []v1alpha1.Finding
}

// parseConfig reads the content of an .atlas.hcl.
func parseConfig(source []byte) (config, []v1alpha1.Finding) {
	r := &configReader{config: config{errors: map[class]bool{}, names: map[string]pattern{}}}
	r.read(source)
	slices.SortStableFunc(r.findings, func(a, b v1alpha1.Finding) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), strings.Compare(a.Message, b.Message))
	})
	return r.config, r.findings
}

func (r *configReader) add(at hcl.Range, code, format string, args ...any) {
	r.findings = append(r.findings, r.config.finding(configName, int32(at.Start.Line), code, format, args...))
}

func (r *configReader) read(source []byte) {
	if len(source) > maxConfig {
		r.add(hcl.Range{Start: hcl.InitialPos}, "DU111", "The file has more than %d bytes, and is not read", maxConfig)
		return
	}
	file, problems := hclsyntax.ParseConfig(source, configName, hcl.InitialPos)
	for _, p := range problems {
		r.add(*p.Subject, "DU111", "Not read, because it cannot be parsed: %s", clip(p.Summary, 100))
	}
	if problems.HasErrors() {
		return
	}
	body := file.Body.(*hclsyntax.Body) // as ParseConfig promises
	for _, a := range body.Attributes {
		r.add(a.NameRange, "DU111", "%s is not known at the top level: only a lint block is read", short(a.Name))
	}
	seen := false
	for _, b := range body.Blocks {
		switch {
		case slices.Contains(projectBlocks, b.Type):
			r.add(b.TypeRange, "DU112", "A block %s is not supported: of a project, only the lint block at the top level is read", b.Type)
		case b.Type != "lint":
			r.add(b.TypeRange, "DU111", "A block %s is not known: only a lint block is read", short(b.Type))
		case seen:
			r.add(b.TypeRange, "DU111", "There is a second lint block: make them one")
		default:
			seen = true
			r.unlabelled(b)
			r.lint(b.Body)
		}
	}
}

var (
	// projectBlocks are those of an Atlas project besides lint.
	projectBlocks = []string{"atlas", "check", "data", "diff", "docker", "env", "exporter", "format", "hook", "locals", "predicate", "rule", "variable"}
	// commandKeys tell Atlas's command which files to lint and how to print the outcome; here the runner's flags do.
	commandKeys = []string{"format", "git", "latest", "log"}
	// unsupported are policies of Atlas that nothing here enforces.
	unsupported = []string{"non_linear", "review", "rule"}
	// kinds are those that a naming policy can be about.
	kinds = []string{"schema", "table", "column", "index", "foreign_key", "check"}
	// checks of concurrent_index, and what each of them switches off.
	checks = map[string]string{"check_create": "PG101", "check_drop": "PG102", "check_txmode": "PG103"}
)

func (r *configReader) lint(body *hclsyntax.Body) {
	for _, a := range body.Attributes {
		r.foreign(a.NameRange, a.Name)
	}
	seen := map[string]bool{}
	for _, b := range body.Blocks {
		if !slices.ContainsFunc(rules, func(r rule) bool { return r.class != directives && string(r.class) == b.Type }) {
			r.foreign(b.TypeRange, b.Type)
			continue
		}
		if seen[b.Type] {
			r.add(b.TypeRange, "DU111", "There is a second block lint.%s: make them one", b.Type)
			continue
		}
		seen[b.Type] = true
		r.unlabelled(b)
		r.class(class(b.Type), b.Body)
	}
}

// foreign is about a key of the lint block that is none of ours.
func (r *configReader) foreign(at hcl.Range, key string) {
	switch {
	case slices.Contains(commandKeys, key):
	case slices.Contains(unsupported, key):
		r.add(at, "DU112", "lint.%s is not supported, and checks nothing here", key)
	default:
		r.add(at, "DU111", "lint.%s is not known, and checks nothing", short(key))
	}
}

func (r *configReader) unlabelled(b *hclsyntax.Block) {
	if len(b.Labels) > 0 {
		r.add(b.LabelRanges[0], "DU111", "A block %s has no name", b.Type)
	}
}

// class reads the block of a class of rules.
func (r *configReader) class(c class, body *hclsyntax.Body) {
	for _, a := range body.Attributes {
		code, isCheck := checks[a.Name]
		switch {
		case a.Name == "error":
			if isError, ok := literal[bool](r, a); ok {
				r.config.errors[c] = isError
			}
		case c == concurrentIndex && isCheck:
			if on, ok := literal[bool](r, a); ok && !on {
				r.config.off = append(r.config.off, code)
			}
		case c == naming && (a.Name == "match" || a.Name == "message"):
		default:
			r.add(a.NameRange, "DU111", "lint.%s.%s is not known, and checks nothing", c, short(a.Name))
		}
	}
	if c == naming {
		r.pattern("", body)
	}
	for _, b := range body.Blocks {
		if c != naming || !slices.Contains(kinds, b.Type) {
			r.add(b.TypeRange, "DU111", "lint.%s.%s is not known, and checks nothing", c, short(b.Type))
			continue
		}
		r.unlabelled(b)
		r.kind(b)
	}
}

// kind reads the naming policy for one kind of objects.
func (r *configReader) kind(b *hclsyntax.Block) {
	for _, a := range b.Body.Attributes {
		if a.Name != "match" && a.Name != "message" {
			r.add(a.NameRange, "DU111", "lint.naming.%s.%s is not known, and checks nothing", b.Type, short(a.Name))
		}
	}
	for _, inner := range b.Body.Blocks {
		r.add(inner.TypeRange, "DU111", "lint.naming.%s.%s is not known, and checks nothing", b.Type, short(inner.Type))
	}
	r.pattern(b.Type, b.Body)
}

// pattern reads match and message.
func (r *configReader) pattern(kind string, body *hclsyntax.Body) {
	var p pattern
	if a := body.Attributes["message"]; a != nil {
		p.message, _ = literal[string](r, a)
	}
	a := body.Attributes["match"]
	if a == nil {
		if p.message != "" {
			r.add(body.Attributes["message"].NameRange, "DU111", "A naming policy has a message, but no match")
		}
		return
	}
	source, ok := literal[string](r, a)
	if !ok {
		return
	}
	var err error
	if p.match, err = regexp.Compile(source); err != nil {
		r.add(a.NameRange, "DU111", "match is not a regular expression: %v", err)
		return
	}
	r.config.names[kind] = p
}

// literal is the value of an attribute. Variables and functions of a project have none here.
func literal[T bool | string](r *configReader, a *hclsyntax.Attribute) (T, bool) {
	var v T
	if problems := gohcl.DecodeExpression(a.Expr, nil, &v); problems.HasErrors() {
		r.add(a.Expr.Range(), "DU111", "%s has no value here: it must be a plain %T, without variables", short(a.Name), v)
		return v, false
	}
	return v, true
}
