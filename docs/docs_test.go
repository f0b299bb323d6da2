// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

// Package docs_test keeps what the documentation says about the code true.
package docs_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const root = ".."

// TestStateTable compares the rows of Decide, in the order of its switch, with those of the table in architecture.md.
func TestStateTable(t *testing.T) {
	var documented []string
	for _, m := range regexp.MustCompile("(?m)^\\| `(\\d+ [^`]+)` \\|").FindAllStringSubmatch(read(t, "architecture.md"), -1) {
		documented = append(documented, m[1])
	}
	decided := rowsOfDecide(t)
	if len(decided) < 10 {
		t.Fatalf("found only the rows %q in the code", decided)
	}
	if !slices.Equal(decided, documented) {
		t.Errorf("rows differ\n    Decide: %q\ndocumented: %q", decided, documented)
	}
}

// rowsOfDecide are the names of rows in the order in which Decide's cases come, each case followed into the methods of rows.go that it calls.
func rowsOfDecide(t *testing.T) []string {
	t.Helper()
	methods := map[string]*ast.BlockStmt{}
	var decide *ast.BlockStmt
	for _, name := range []string{"decide.go", "rows.go"} {
		file, err := parser.ParseFile(token.NewFileSet(), filepath.Join(root, "internal/upgrade", name), nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range file.Decls {
			switch f, ok := d.(*ast.FuncDecl); {
			case ok && f.Recv != nil:
				methods[f.Name.Name] = f.Body
			case ok && f.Name.Name == "decide":
				decide = f.Body
			}
		}
	}
	if decide == nil {
		t.Fatal("there is no function Decide in decide.go")
	}
	var rows []string
	row, followed := regexp.MustCompile(`^\d+ [a-zA-Z]`), map[string]bool{}
	var follow func(ast.Node) bool
	follow = func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.BasicLit:
			text, err := strconv.Unquote(n.Value)
			if err == nil && n.Kind == token.STRING && row.MatchString(text) && !slices.Contains(rows, text) {
				rows = append(rows, text)
			}
		case *ast.SelectorExpr:
			if body := methods[n.Sel.Name]; body != nil && !followed[n.Sel.Name] {
				followed[n.Sel.Name] = true
				ast.Inspect(body, follow)
			}
		}
		return true
	}
	ast.Inspect(decide, follow)
	return rows
}

// TestConditionsAndReasons finds every condition and reason of the API, and nothing else, in the tables of the README.
func TestConditionsAndReasons(t *testing.T) {
	readme := read(t, "../README.md")
	source := read(t, "../api/v1alpha1/conditions.go")
	for prefix, heading := range map[string]string{"Condition": "### Conditions", "Reason": "### Reasons"} {
		var declared []string
		for _, m := range regexp.MustCompile(`(?m)^\s+`+prefix+`\w+\s+= "(\w+)"`).FindAllStringSubmatch(source, -1) {
			declared = append(declared, m[1])
		}
		var documented []string
		for _, m := range regexp.MustCompile("(?m)^\\| `(\\w+)` \\|").FindAllStringSubmatch(section(t, readme, heading), -1) {
			documented = append(documented, m[1])
		}
		if len(declared) < 5 {
			t.Fatalf("found only %q in conditions.go", declared)
		}
		slices.Sort(declared)
		slices.Sort(documented)
		if !slices.Equal(declared, documented) {
			t.Errorf("%s\n  declared: %q\ndocumented: %q", heading, declared, documented)
		}
	}
}

// section is the text from a heading to the next one.
func section(t *testing.T, text, heading string) string {
	t.Helper()
	_, after, found := strings.Cut(text, heading+"\n")
	if !found {
		t.Fatalf("README.md has no heading %q", heading)
	}
	before, _, _ := strings.Cut(after, "\n#")
	return before
}

// TestLinks resolves every relative link, and its fragment.
func TestLinks(t *testing.T) {
	link := regexp.MustCompile(`\]\(([^)\s]+)\)`)
	for _, page := range pages(t) {
		for _, m := range link.FindAllStringSubmatch(withoutCode(read(t, page)), -1) {
			if strings.Contains(m[1], "://") {
				continue
			}
			path, fragment, _ := strings.Cut(m[1], "#")
			target := page
			if path != "" {
				target = filepath.Join(filepath.Dir(page), path)
			}
			if _, err := os.Stat(target); err != nil {
				t.Errorf("%s links to %s: %v", page, m[1], err)
				continue
			}
			if fragment != "" && !slices.Contains(anchors(read(t, target)), fragment) {
				t.Errorf("%s links to %s, but there is no such heading", page, m[1])
			}
		}
	}
}

// anchors are what GitHub makes of the headings of a page.
func anchors(text string) []string {
	var found []string
	for _, m := range regexp.MustCompile(`(?m)^#+ (.+)$`).FindAllStringSubmatch(withoutCode(text), -1) {
		words := regexp.MustCompile(`[^\p{L}\p{N} _-]`).ReplaceAllString(strings.ToLower(m[1]), "")
		found = append(found, strings.ReplaceAll(words, " ", "-"))
	}
	return found
}

// TestMakeTargets finds every "make x" that is shown as code in the Makefile.
func TestMakeTargets(t *testing.T) {
	makefile := read(t, "../Makefile")
	shown := regexp.MustCompile("(?m)(?:`|^)make((?: [a-zA-Z0-9_=-]+)+)(?:`|$)")
	seen := 0
	for _, page := range pages(t) {
		for _, m := range shown.FindAllStringSubmatch(read(t, page), -1) {
			for _, target := range strings.Fields(m[1]) {
				if strings.Contains(target, "=") {
					continue
				}
				seen++
				if !regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(target) + `:`).MatchString(makefile) {
					t.Errorf("%s shows make %s, which the Makefile does not have", page, target)
				}
			}
		}
	}
	if seen == 0 {
		t.Error("no page shows any target")
	}
}

// pages are the files of the documentation.
func pages(t *testing.T) []string {
	t.Helper()
	found := []string{"../README.md", "../CONTRIBUTING.md"}
	err := filepath.WalkDir(".", func(path string, _ fs.DirEntry, err error) error {
		if filepath.Ext(path) == ".md" {
			found = append(found, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func withoutCode(text string) string {
	return regexp.MustCompile("(?ms)^ *```.*?^ *```$").ReplaceAllString(text, "")
}

func read(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}
