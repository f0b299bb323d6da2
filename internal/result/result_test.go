// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

package result_test

import (
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/subganapathy/automatic-db-upgrades/api/v1alpha1"
	"github.com/subganapathy/automatic-db-upgrades/internal/result"
)

const digest = "@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

func files(n int, description string) []v1alpha1.AppliedFile {
	var all []v1alpha1.AppliedFile
	for i := range n {
		all = append(all, v1alpha1.AppliedFile{
			Version: fmt.Sprintf("2026010203%04d", i), Description: description, Statements: 3,
			Duration: metav1.Duration{Duration: time.Duration(i) * time.Millisecond},
		})
	}
	return all
}

func plans(n int, description string) []v1alpha1.PlannedFile {
	var all []v1alpha1.PlannedFile
	for i := range n {
		all = append(all, v1alpha1.PlannedFile{Version: fmt.Sprintf("2026010203%04d", i), Description: description, Statements: 3})
	}
	return all
}

// findings alternate between warnings and errors.
func findings(n int, message string) []v1alpha1.Finding {
	var all []v1alpha1.Finding
	for i := range n {
		severity := []v1alpha1.Severity{v1alpha1.SeverityWarning, v1alpha1.SeverityError}[i%2]
		all = append(all, v1alpha1.Finding{File: "1.sql", Line: int32(i + 1), Code: "DS102", Severity: severity, Message: message})
	}
	return all
}

func TestRoundTrip(t *testing.T) {
	for name, want := range map[string]result.Result{
		"nothing": {},
		"fetched": {Image: "registry.test/app" + digest},
		"failed":  result.Failed(v1alpha1.Failure{Class: v1alpha1.ImagePullFailed, Error: "GET https://registry.test/v2/: 401 <Unauthorized> & more"}),
		"applied": {Migration: &v1alpha1.MigrationStatus{
			CurrentVersion: "2", TargetVersion: "3", Pending: 1, Total: 3, DirectoryHash: "h1:abc=", DatabaseAhead: true, Applied: files(2, "create users"),
			Failure: &v1alpha1.Failure{Class: v1alpha1.StatementFailed, Version: "3", File: "3_größe.sql", Statement: 7, SQLState: "42P01", Error: "relation \"x\" does not exist at 'line' 1"},
		}},
		"planned": {Migration: &v1alpha1.MigrationStatus{
			CurrentVersion: "1", TargetVersion: "3", Pending: 2, Total: 3, Planned: plans(2, "create users"), Findings: findings(2, "drops table users")[1:], LockRetries: 2,
		}},
	} {
		t.Run(name, func(t *testing.T) {
			data := want.Encode()
			got, err := result.Parse(string(data))
			if err != nil {
				t.Fatalf("%v\n%s", err, data)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestEncodeFits puts in what no file system and no database would give, and more than a termination message can hold.
func TestEncodeFits(t *testing.T) {
	texts := map[string]string{
		"plain":         "x",
		"quotes":        `"\`,
		"control":       "\x00\x01\x1b\n\t",
		"separators":    "\u2028",
		"markup":        "<&>",
		"invalid UTF-8": "\xff\xfe",
		"cut UTF-8":     "€"[:2],
		"emoji":         "🐘",
		"combining":     "é",
	}
	for name, text := range texts {
		for _, times := range []int{1, 65, 257, 2000, 100_000} {
			t.Run(fmt.Sprintf("%s x %d", name, times), func(t *testing.T) {
				long := strings.Repeat(text, times)
				all := files(40, long)
				for i := range all {
					all[i].Version = long
				}
				r := result.Result{Image: long, Migration: &v1alpha1.MigrationStatus{
					CurrentVersion: long, TargetVersion: long, Pending: 1<<31 - 1, Total: -1 << 31, Applied: all, DirectoryHash: long, DatabaseAhead: true,
					Planned: plans(40, long), Findings: findings(40, long), LockRetries: 1<<31 - 1,
					Failure: &v1alpha1.Failure{Class: v1alpha1.DatabaseUnreachable, Version: long, File: long, Statement: 1<<31 - 1, SQLState: long, Error: long},
				}}
				data := r.Encode()
				if len(data) > result.MaxBytes {
					t.Fatalf("%d bytes", len(data))
				}
				got, err := result.Parse(string(data))
				if err != nil {
					t.Fatalf("%v\n%s", err, data)
				}
				m, f := got.Migration, got.Failure()
				if f == nil || f.Class != v1alpha1.DatabaseUnreachable || f.Error == "" || m.Pending != 1<<31-1 || m.LockRetries != 1<<31-1 || !m.DatabaseAhead || got.Image == "" {
					t.Errorf("the heart of it is lost: %s", data)
				}
				if !m.Truncated {
					t.Errorf("not marked as truncated: %s", data)
				}
				if again := got.Encode(); string(again) != string(data) {
					t.Errorf("a second time it differs:\n%s\n%s", data, again)
				}
			})
		}
	}
}

func TestEncodeKeepsFirstAndLastFile(t *testing.T) {
	for _, n := range []int{1, 2, 3, 32, 33, 34, 5000} {
		for name, failure := range map[string]*v1alpha1.Failure{
			"applied": nil,
			"failed":  {Class: v1alpha1.StatementFailed, File: strings.Repeat("f", 300), Error: strings.Repeat("e", 5000)},
		} {
			t.Run(fmt.Sprintf("%d files, %s", n, name), func(t *testing.T) {
				all := files(n, strings.Repeat("d", 300))
				r := result.Result{Image: "registry.test/" + strings.Repeat("a", 255) + digest, Migration: &v1alpha1.MigrationStatus{Applied: all, Failure: failure}}
				got, err := result.Parse(string(r.Encode()))
				if err != nil {
					t.Fatal(err)
				}
				kept := got.Migration.Applied
				if kept[0].Version != all[0].Version || kept[len(kept)-1].Version != all[n-1].Version {
					t.Errorf("kept %s to %s of %d files", kept[0].Version, kept[len(kept)-1].Version, n)
				}
				if n > 1 && len(kept) < 2 {
					t.Error("the first or the last one is gone")
				}
			})
		}
	}
}

// TestEncodePlan keeps the first and the last planned file and the worst findings, and room for both.
func TestEncodePlan(t *testing.T) {
	for name, c := range map[string]struct{ planned, found, text, wantPlanned, wantFound int }{
		"small":            {planned: 3, found: 2, text: 40, wantPlanned: 3, wantFound: 2},
		"as many as fit":   {planned: 20, found: 16, text: 1, wantPlanned: 20, wantFound: 16},
		"beyond":           {planned: 33, found: 17, text: 1, wantPlanned: 26, wantFound: 16},
		"many of both":     {planned: 5000, found: 500, text: 200, wantPlanned: 11, wantFound: 8},
		"talkative":        {planned: 2, found: 16, text: 500, wantPlanned: 2, wantFound: 4},
		"a plan at length": {planned: 1000, found: 1, text: 1, wantPlanned: 32, wantFound: 1},
	} {
		t.Run(name, func(t *testing.T) {
			plan := plans(c.planned, "create")
			r := result.Result{Migration: &v1alpha1.MigrationStatus{Planned: plan, Findings: findings(c.found, strings.Repeat("m", c.text))}}
			got, err := result.Parse(string(r.Encode()))
			if err != nil {
				t.Fatal(err)
			}
			m := got.Migration
			if len(m.Planned) != c.wantPlanned || len(m.Findings) != c.wantFound || m.Truncated != (c.wantPlanned < c.planned || c.wantFound < c.found) {
				t.Fatalf("%d planned, %d found, truncated %v", len(m.Planned), len(m.Findings), m.Truncated)
			}
			if first, last := m.Planned[0], m.Planned[len(m.Planned)-1]; first != plan[0] || last != plan[len(plan)-1] {
				t.Errorf("kept %s to %s", first.Version, last.Version)
			}
			if m.Findings[0].Severity == v1alpha1.SeverityWarning && c.found > 1 {
				t.Error("a warning goes before an error")
			}
		})
	}
}

// TestEncodeMarksOnlyCuts: what fits goes through whole and is not called truncated.
func TestEncodeMarksOnlyCuts(t *testing.T) {
	for n, truncated := range map[int]bool{0: false, 1: false, 20: false, 32: false, 33: true} {
		r := result.Result{Migration: &v1alpha1.MigrationStatus{Applied: files(n, "d")}}
		got, err := result.Parse(string(r.Encode()))
		if err != nil {
			t.Fatal(err)
		}
		if got.Migration.Truncated != truncated || len(got.Migration.Applied) != min(n, 32) {
			t.Errorf("%d files: %d kept, truncated %v", n, len(got.Migration.Applied), got.Migration.Truncated)
		}
	}
}

// TestEncodeWritesMarkupAsItIs: escaped, a message full of comparisons would not fit any more.
func TestEncodeWritesMarkupAsItIs(t *testing.T) {
	text := strings.Repeat("<", 1024)
	got, err := result.Parse(string(result.Failed(v1alpha1.Failure{Class: v1alpha1.StatementFailed, Error: text}).Encode()))
	if err != nil {
		t.Fatal(err)
	}
	if got.Failure().Error != text {
		t.Errorf("cut to %d characters", utf8.RuneCountInString(got.Failure().Error))
	}
}

func TestEncodeLeavesItsReceiverAlone(t *testing.T) {
	r := result.Result{Migration: &v1alpha1.MigrationStatus{Applied: files(100, "d"), Failure: &v1alpha1.Failure{Class: v1alpha1.Internal, Error: strings.Repeat("e", 5000)}}}
	before := r.Migration.DeepCopy()
	r.Encode()
	if diff := cmp.Diff(before, r.Migration); diff != "" {
		t.Error(diff)
	}
}

func TestParseRefuses(t *testing.T) {
	for name, message := range map[string]string{
		"nothing":            "",
		"words":              "failed to create containerd task: no such file",
		"panic":              "panic: runtime error: index out of range [3] with length 3\n\ngoroutine 1 [running]:\n",
		"a list":             "[]",
		"a number":           "1",
		"a string":           `"registry.test/app"`,
		"a cut result":       `{"image":"registry.test/app`,
		"an unknown field":   `{"image":"registry.test/app","password":"x"}`,
		"a wrong type":       `{"migration":{"pending":"three"}}`,
		"too large a number": `{"migration":{"pending":99999999999}}`,
		"an unknown class":   `{"migration":{"failure":{"class":"Explosion"}}}`,
		"no class":           `{"migration":{"failure":{"error":"x"}}}`,
		"text after it":      `{"image":"registry.test/app"} and more`,
		"two results":        `{}{}`,
		"oversize":           `{"image":"` + strings.Repeat("x", 4096) + `"}`,
		"oversize blanks":    "{}" + strings.Repeat(" ", 4096),
	} {
		t.Run(name, func(t *testing.T) {
			got, err := result.Parse(message)
			if err == nil {
				t.Fatalf("got %+v", got)
			}
			if !cmp.Equal(got, result.Result{}) {
				t.Errorf("an error and a result: %+v", got)
			}
			if len(err.Error()) > 2048 {
				t.Errorf("an error of %d bytes", len(err.Error()))
			}
		})
	}
}

// TestParseBounds: a runner of another version, or somebody else's image in its place, may write more than the API takes.
func TestParseBounds(t *testing.T) {
	long := strings.Repeat("x", 1500)
	got, err := result.Parse(`{"image":"` + long + `","migration":{"failure":{"class":"Internal","sqlState":"1234567","error":"` + long + `"}}}`)
	if err != nil {
		t.Fatal(err)
	}
	f := got.Failure()
	if n := utf8.RuneCountInString(got.Image); n != 1280 {
		t.Errorf("image has %d characters", n)
	}
	if n := utf8.RuneCountInString(f.Error); n != 1024 || !strings.HasSuffix(f.Error, "…") {
		t.Errorf("error has %d characters", n)
	}
	if f.SQLState != "1234…" || !got.Migration.Truncated {
		t.Errorf("got %+v", got.Migration)
	}
}

func TestFailure(t *testing.T) {
	if f := (result.Result{}).Failure(); f != nil {
		t.Errorf("nothing failed, got %v", f)
	}
	if f := (result.Result{Migration: &v1alpha1.MigrationStatus{}}).Failure(); f != nil {
		t.Errorf("nothing failed, got %v", f)
	}
	if f := result.Failed(v1alpha1.Failure{Class: v1alpha1.InDoubt}).Failure(); f == nil || f.Class != v1alpha1.InDoubt {
		t.Errorf("got %v", f)
	}
}

func TestCut(t *testing.T) {
	for name, c := range map[string]struct {
		in    string
		limit int
		want  string
	}{
		"empty":            {"", 3, ""},
		"shorter":          {"ab", 3, "ab"},
		"just fits":        {"abc", 3, "abc"},
		"longer":           {"abcd", 3, "ab…"},
		"characters count": {"äöü", 3, "äöü"},
		"multi-byte cut":   {"äöüß", 3, "äö…"},
		"emoji":            {"🐘🐘🐘", 2, "🐘…"},
		"invalid":          {"a\xffb", 3, "a\uFFFDb"},
		"invalid and long": {"\xff\xffabc", 3, "\uFFFDa…"}, // a run of invalid bytes is one character
		"half a character": {"ab" + "€"[:2], 3, "ab\uFFFD"},
		"to one":           {"abc", 1, "…"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := result.Cut(c.in, c.limit); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}
