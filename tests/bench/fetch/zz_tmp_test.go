package fetch

import (
	"fmt"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/subganapathy/automatic-db-upgrades/tests/registry"
)

func BenchmarkServe(b *testing.B) {
	reg := serve(b)
	below := others(b)
	one := directory(b, false)
	reg.Push(b, "none:v1", registry.Of(b, slices.Insert(slices.Clone(below), 7, one.layer(b))...))
	two := directory(b, true)
	reg.Push(b, "top:v1", registry.Of(b, slices.Insert(slices.Clone(below), 7, two.layer(b))...))
	reg.Push(b, "mid:v1", registry.Of(b, slices.Insert(slices.Clone(below), 3, two.layer(b))...))
	os.WriteFile("/tmp/fetch-host", []byte(reg.Host()), 0o644)
	fmt.Println(reg.Host())
	for {
		if _, err := os.Stat("/tmp/fetch-host"); err != nil {
			return
		}
		time.Sleep(time.Second)
	}
}
