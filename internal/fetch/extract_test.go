// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

package fetch

import (
	"archive/tar"
	"strings"
	"testing"

	"github.com/subganapathy/automatic-db-upgrades/api/v1alpha1"
	"github.com/subganapathy/automatic-db-upgrades/tests/registry"
)

type entries = []registry.Entry

func TestExtract(t *testing.T) {
	reg := registry.New(t)
	long := strings.Repeat("n", 255)
	tests := map[string]struct {
		dir    string // default /migrations
		layers []entries
		want   map[string]string
		refuse string // part of the error instead
	}{
		"files, subdirectories, nothing else of the image": {
			layers: []entries{{regular("app/main", "x"), folder("migrations"), regular("migrations/1.sql", "one"), regular("migrations/sub/2.sql", "two"), regular("migrations2/3.sql", "three")}},
			want:   map[string]string{"1.sql": "one", "sub/2.sql": "two"},
		},
		"names with ./ and / in front": {
			layers: []entries{{regular("./migrations/1.sql", "one"), regular("/migrations/2.sql", "two"), regular("migrations//./3.sql", "three")}},
			want:   map[string]string{"1.sql": "one", "2.sql": "two", "3.sql": "three"},
		},
		"the whole image": {
			dir:    "/",
			layers: []entries{{folder("."), regular("1.sql", "one"), regular("sub/2.sql", "two")}},
			want:   map[string]string{"1.sql": "one", "sub/2.sql": "two"},
		},
		"a trailing slash on the directory": {
			dir:    "/app/db/",
			layers: []entries{{regular("app/db/1.sql", "one")}},
			want:   map[string]string{"1.sql": "one"},
		},
		"layers add up, the higher one wins": {
			layers: []entries{{regular("migrations/1.sql", "old"), regular("migrations/2.sql", "two")}, {regular("migrations/1.sql", "new"), regular("migrations/3.sql", "three")}},
			want:   map[string]string{"1.sql": "new", "2.sql": "two", "3.sql": "three"},
		},
		"empty files and odd but legal names": {
			layers: []entries{{regular("migrations/empty.sql", ""), regular("migrations/a b.sql", "1"), regular("migrations/ü.sql", "2"), regular("migrations/..x", "3"), regular("migrations/"+long, "4"), regular("migrations/-rf", "5")}},
			want:   map[string]string{"empty.sql": "", "a b.sql": "1", "ü.sql": "2", "..x": "3", long: "4", "-rf": "5"},
		},
		"set-user-ID is not kept": {
			layers: []entries{{{Header: tar.Header{Name: "migrations/1.sql", Mode: 0o6777}, Content: "one"}}},
			want:   map[string]string{"1.sql": "one"},
		},

		"deleted file": {
			layers: []entries{{regular("migrations/1.sql", "one"), regular("migrations/2.sql", "two")}, {regular("migrations/.wh.1.sql", "")}},
			want:   map[string]string{"2.sql": "two"},
		},
		"deleted directory": {
			layers: []entries{{regular("migrations/1.sql", "one"), regular("migrations/sub/2.sql", "two")}, {regular("migrations/.wh.sub", "")}},
			want:   map[string]string{"1.sql": "one"},
		},
		"deletion does not hide what its own layer has, in either order": {
			layers: []entries{{regular("migrations/a", "old"), regular("migrations/b", "old"), regular("migrations/sub/c", "old")}, {
				regular("migrations/.wh.a", ""), regular("migrations/a", "new"), regular("migrations/b", "new"), regular("migrations/.wh.b", ""),
				regular("migrations/sub/d", "new"), regular("migrations/.wh.sub", ""),
			}},
			want: map[string]string{"a": "new", "b": "new", "sub/d": "new"},
		},
		"deleted and made again": {
			layers: []entries{{regular("migrations/sub/1", "old"), regular("migrations/2", "old")}, {regular("migrations/.wh.sub", ""), regular("migrations/.wh.2", "")}, {regular("migrations/sub/3", "new"), regular("migrations/2", "new")}},
			want:   map[string]string{"sub/3": "new", "2": "new"},
		},
		"deleted parent, made again": {
			dir:    "/app/db/migrations",
			layers: []entries{{regular("app/db/migrations/1", "old")}, {regular(".wh.app", "")}, {regular("app/db/migrations/2", "new")}},
			want:   map[string]string{"2": "new"},
		},
		"opaque directory": {
			layers: []entries{{regular("migrations/1", "old"), regular("migrations/sub/2", "old")}, {folder("migrations"), regular("migrations/3", "new"), regular("migrations/.wh..wh..opq", "")}},
			want:   map[string]string{"3": "new"},
		},
		"opaque parent": {
			dir:    "/app/db",
			layers: []entries{{regular("app/db/1", "old")}, {folder("app"), regular("app/.wh..wh..opq", ""), regular("app/db/2", "new")}},
			want:   map[string]string{"2": "new"},
		},
		"opaque root": {
			layers: []entries{{regular("migrations/1", "old")}, {regular(".wh..wh..opq", ""), regular("migrations/2", "new")}},
			want:   map[string]string{"2": "new"},
		},
		"opaque directory under a layer that adds": {
			layers: []entries{{regular("migrations/1", "old")}, {regular("migrations/.wh..wh..opq", "")}, {regular("migrations/2", "new")}},
			want:   map[string]string{"2": "new"},
		},
		"a storage driver's metadata": {
			dir:    "/",
			layers: []entries{{regular("1.sql", "one"), folder(".wh..wh.plnk"), regular(".wh..wh.plnk/9", "x"), regular(".wh..wh.aufs", "")}},
			want:   map[string]string{"1.sql": "one"},
		},
		"file becomes directory": {
			layers: []entries{{regular("migrations/x", "old")}, {folder("migrations/x"), regular("migrations/x/1", "new")}},
			want:   map[string]string{"x/1": "new"},
		},
		"directory becomes file": {
			layers: []entries{{folder("migrations/x"), regular("migrations/x/1", "old")}, {regular("migrations/x", "new")}},
			want:   map[string]string{"x": "new"},
		},
		"parent was a file once": {
			layers: []entries{{regular("migrations", "old")}, {folder("migrations"), regular("migrations/1", "new")}},
			want:   map[string]string{"1": "new"},
		},
		"the last of two entries wins": {
			layers: []entries{{regular("migrations/1", "first"), regular("migrations/1", "last")}},
			want:   map[string]string{"1": "last"},
		},
		"file, then directory, in one layer, above a directory": {
			layers: []entries{{regular("migrations/x/0", "lowest")}, {regular("migrations/x", "f"), folder("migrations/x"), regular("migrations/x/1", "one")}},
			want:   map[string]string{"x/1": "one"},
		},
		"directory, then file, in one layer": {
			layers: []entries{{folder("migrations/x"), regular("migrations/x/1", "one"), regular("migrations/x", "f")}},
			want:   map[string]string{"x": "f"},
		},

		"symbolic links to files within": {
			layers: []entries{{
				regular("migrations/1", "one"), linked("migrations/relative", "1"), linked("migrations/sub/up", "../1"), linked("migrations/absolute", "/migrations/1"),
				linked("migrations/around", "../migrations/1"), linked("migrations/twice", "relative"), linked("migrations/later", "z"), regular("migrations/z", "last"),
			}},
			want: map[string]string{"1": "one", "relative": "one", "sub/up": "one", "absolute": "one", "around": "one", "twice": "one", "later": "last", "z": "last"},
		},
		"symbolic link to a file of another layer": {
			layers: []entries{{regular("migrations/1", "old")}, {linked("migrations/link", "1")}, {regular("migrations/1", "new")}},
			want:   map[string]string{"1": "new", "link": "new"},
		},
		"symbolic link replaced above": {
			layers: []entries{{linked("migrations/1", "/etc/passwd")}, {regular("migrations/1", "one")}},
			want:   map[string]string{"1": "one"},
		},
		"hard links within": {
			layers: []entries{{regular("migrations/1", "one")}, {regular("migrations/2", "two"), hardLinked("migrations/2b", "migrations/2"), hardLinked("migrations/2c", "./migrations/2b"), hardLinked("migrations/1b", "/migrations/1")}},
			want:   map[string]string{"1": "one", "1b": "one", "2": "two", "2b": "two", "2c": "two"},
		},
		"hard link keeps what its target was": {
			layers: []entries{{regular("migrations/1", "first"), hardLinked("migrations/link", "migrations/1"), regular("migrations/1", "last")}},
			want:   map[string]string{"1": "last", "link": "first"},
		},
		"links and devices elsewhere": {
			layers: []entries{{linked("lib", "/usr/lib"), linked("up", "../../.."), hardLinked("app/x", "etc/passwd"), special("dev/null", tar.TypeChar), regular("migrations/1", "one")}},
			want:   map[string]string{"1": "one"},
		},

		"directory is missing": {
			dir:    "/migratons",
			layers: []entries{{regular("migrations/1", "one"), regular("app/x", ""), regular("README", "")}},
			refuse: `directory "/migratons" is not in it (directories seen in /: app, migrations): set migrations.dir`,
		},
		"directory is missing in another one": {
			dir:    "/app/migratons",
			layers: []entries{{regular("app/migrations/1", "one"), regular("lib/x", "")}},
			refuse: `(directories seen in /app: migrations)`,
		},
		"directory is empty":               {layers: []entries{{folder("migrations"), folder("migrations/sub")}}, refuse: "holds no files"},
		"image is empty":                   {refuse: "(directories seen in /: none)"},
		"directory is a file":              {layers: []entries{{regular("migrations", "x")}}, refuse: `"/migrations" is not a directory`},
		"a parent is a file":               {dir: "/app/x/y", layers: []entries{{regular("app/x", "x")}}, refuse: `"/app/x" is not a directory`},
		"directory is a device":            {layers: []entries{{special("migrations", tar.TypeBlock)}}, refuse: `"/migrations" is not a directory`},
		"directory is a link":              {layers: []entries{{regular("app/db/1", "one"), linked("migrations", "app/db")}}, refuse: `"/migrations" is a symbolic link: set migrations.dir to "/app/db"`},
		"a parent is a link":               {dir: "/app/db/migrations", layers: []entries{{linked("app/db", "../data")}}, refuse: `"/app/db" is a symbolic link: set migrations.dir to "/data/migrations"`},
		"directory is a link further down": {layers: []entries{{linked("migrations", "app/db")}, {regular("migrations/1", "one")}}, refuse: "a symbolic link in one layer and a directory in a higher one"},
		"everything deleted":               {layers: []entries{{regular("migrations/1", "one")}, {regular(".wh.migrations", "")}}, refuse: "is not in it"},
		"all files deleted":                {layers: []entries{{regular("migrations/1", "one"), regular("migrations/s/2", "")}, {regular("migrations/.wh.1", ""), regular("migrations/.wh.s", "")}}, refuse: "holds no files"},
		"all files hidden":                 {layers: []entries{{regular("migrations/1", "one")}, {regular("migrations/.wh..wh..opq", "")}}, refuse: "holds no files"},

		"deletion of nothing":          {layers: []entries{{regular("migrations/.wh.", "")}}, refuse: "names no file"},
		"deletion of the parent":       {layers: []entries{{regular("migrations/.wh...", "")}}, refuse: "names no file"},
		"deletion of .":                {layers: []entries{{regular("migrations/.wh..", "")}}, refuse: "names no file"},
		"traversal from within":        {layers: []entries{{regular("migrations/../../etc/passwd", "evil")}}, refuse: `has a ".." in its name`},
		"traversal from the root":      {layers: []entries{{regular("../../etc/passwd", "evil")}}, refuse: `has a ".." in its name`},
		"traversal that comes back":    {layers: []entries{{regular("app/../migrations/1", "evil")}}, refuse: `has a ".." in its name`},
		"backslashes":                  {layers: []entries{{regular(`migrations/..\..\etc\passwd`, "evil")}}, refuse: "has a backslash"},
		"control characters":           {layers: []entries{{regular("migrations/a\nb", "evil")}}, refuse: "control character"},
		"not UTF-8":                    {layers: []entries{{regular("migrations/a\xffb", "evil")}}, refuse: "not UTF-8"},
		"name too long":                {layers: []entries{{regular("migrations/"+long+"x", "evil")}}, refuse: "longer than 255"},
		"path too long":                {layers: []entries{{regular("migrations/"+strings.Repeat("d/", 600)+"x", "evil")}}, refuse: "longer than 1024"},
		"absolute link out":            {layers: []entries{{linked("migrations/1", "/etc/passwd")}}, refuse: `link "/migrations/1" leaves the directory "/migrations": it leads to "/etc/passwd"`},
		"relative link out":            {layers: []entries{{linked("migrations/1", "../etc/passwd")}}, refuse: "leaves the directory"},
		"link out and file through it": {layers: []entries{{linked("migrations/d", "../../etc"), regular("migrations/d/passwd", "evil")}}, refuse: "leaves the directory"},
		"file through a link within":   {layers: []entries{{folder("migrations/d"), linked("migrations/e", "d"), regular("migrations/e/x", "evil")}}, refuse: `/migrations/e is not a directory`},
		"link to a neighbour":          {layers: []entries{{linked("migrations/1", "../migrations2/1"), regular("migrations2/1", "")}}, refuse: "leaves the directory"},
		"link to the directory":        {layers: []entries{{linked("migrations/1", ".")}}, refuse: "leaves the directory"},
		"link to a subdirectory":       {layers: []entries{{folder("migrations/s"), linked("migrations/1", "s")}}, refuse: "which is a directory"},
		"dangling link":                {layers: []entries{{linked("migrations/1", "2")}}, refuse: `leads to "/migrations/2", which is not there`},
		"link to a deleted file":       {layers: []entries{{regular("migrations/2", ""), linked("migrations/1", "2")}, {regular("migrations/.wh.2", "")}}, refuse: "which is not there"},
		"links in a circle":            {layers: []entries{{linked("migrations/1", "2"), linked("migrations/2", "1")}}, refuse: "in a circle"},
		"link to itself":               {layers: []entries{{linked("migrations/1", "1")}}, refuse: "in a circle"},
		"hard link out":                {layers: []entries{{regular("etc/passwd", ""), hardLinked("migrations/1", "etc/passwd")}}, refuse: "leaves the directory"},
		"hard link with dots":          {layers: []entries{{hardLinked("migrations/1", "migrations/../../etc/passwd")}}, refuse: `has a ".." in its target`},
		"dangling hard link":           {layers: []entries{{hardLinked("migrations/1", "migrations/2")}}, refuse: "which is not there"},
		"hard link to a replaced file": {layers: []entries{{regular("migrations/2", "old"), hardLinked("migrations/1", "migrations/2")}, {regular("migrations/2", "new")}}, refuse: "that a higher layer replaces"},
		"character device":             {layers: []entries{{special("migrations/1", tar.TypeChar)}}, refuse: "device"},
		"block device":                 {layers: []entries{{special("migrations/1", tar.TypeBlock)}}, refuse: "device"},
		"FIFO":                         {layers: []entries{{special("migrations/1", tar.TypeFifo)}}, refuse: "FIFO"},
		"socket or other type":         {layers: []entries{{special("migrations/1", 'x'+1)}}, refuse: "device"},
		"file beneath a file":          {layers: []entries{{regular("migrations/1", ""), regular("migrations/1/2", "")}}, refuse: "/migrations/1 is not a directory"},
		"relative directory":           {dir: "migrations", refuse: "is not an absolute path"},
		"directory with dots":          {dir: "/migrations/../etc", refuse: "is not an absolute path"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			reg.Push(t, "app:v1", registry.Of(t, layers(t, tt.layers...)...))
			s := newSandbox(t)
			dir := tt.dir
			if dir == "" {
				dir = "/migrations"
			}
			report, err := Run(t.Context(), Options{Image: reg.Ref("app:v1"), Dir: dir, Out: s.out, PlainHTTP: true})
			if tt.refuse != "" {
				s.checkRefused(t, err, v1alpha1.ImageInvalid, tt.refuse)
				return
			}
			s.checkFiles(t, err, tt.want)
			var bytes int64
			for _, content := range tt.want {
				bytes += int64(len(content))
			}
			if report.Files != len(tt.want) || report.Bytes != bytes {
				t.Errorf("reported %d files of %d bytes, want %d of %d", report.Files, report.Bytes, len(tt.want), bytes)
			}
		})
	}
}
