// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

package directory

import (
	"fmt"
	"testing"

	"github.com/subganapathy/automatic-db-upgrades/tests/migrations"
)

// BenchmarkRead reads directories of files of three statements. The time for one file shows whether a directory's costs more than the sum of its files.
func BenchmarkRead(b *testing.B) {
	const text = "-- Something.\nCREATE TABLE a%[1]d (i int, s text DEFAULT 'x;y');\nCREATE INDEX a%[1]d_i ON a%[1]d (i);\nINSERT INTO a%[1]d VALUES (%[1]d);\n"
	for _, n := range []int{10, 100, 1000, 9_999} { // with atlas.sum 10,000, which is the most
		content := files{}
		for i := range n {
			content[fmt.Sprintf("%05d_file.sql", i)] = fmt.Sprintf(text, i)
		}
		dir := migrations.Dir(b, content)
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				d := mustRead(b, Options{Dir: dir})
				for v := range n {
					if _, found := d.File(fmt.Sprintf("%05d", v)); !found {
						b.Fatal(v)
					}
				}
			}
			b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N)/float64(n), "µs/file")
		})
	}
}
