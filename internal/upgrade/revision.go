// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

package upgrade

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"

	"github.com/subganapathy/automatic-db-upgrades/api/v1alpha1"
)

// DefaultDir is the directory of migrations where the spec names none.
const DefaultDir = "/migrations"

// Revision is a hash of the fields that decide which migrations a database ends up with. Checks, limits, deadlines and transactions are not among them,
// and neither is a field at its default, so that an API that learns a new defaulted field keeps every revision. Golden hashes in a test hold it still.
func Revision(spec *v1alpha1.DBUpgradeSpec) string {
	facts := map[string]string{}
	add := func(key, value, fallback string) {
		if value != fallback {
			facts[key] = value
		}
	}
	add("migrations.image", spec.Migrations.Image, "")
	add("migrations.dir", cmp.Or(spec.Migrations.Dir, DefaultDir), DefaultDir)
	add("migrations.format", string(cmp.Or(spec.Migrations.Format, v1alpha1.FormatAtlas)), string(v1alpha1.FormatAtlas))
	apply := spec.Migrations.Apply
	add("migrations.apply.baseline", apply.Baseline, "")
	add("migrations.apply.execOrder", string(cmp.Or(apply.ExecOrder, v1alpha1.ExecOrderLinear)), string(v1alpha1.ExecOrderLinear))
	add("migrations.apply.revisionsSchema", apply.RevisionsSchema, "")
	add("migrations.apply.toVersion", apply.ToVersion, "")
	add("database", DatabaseKey("", spec.Database), "")
	return hash(facts)[:16]
}

// DatabaseKey names a database as far as the operator can tell two apart: a self-hosted one by the namespace, Secret and key of its URL.
func DatabaseKey(namespace string, db v1alpha1.DatabaseSpec) string {
	if db.Connection == nil {
		return ""
	}
	ref := db.Connection.URLSecretRef
	return fmt.Sprintf("%s/%s/%s/%s", db.Type, namespace, ref.Name, ref.Key)
}

// LockName is the name of the Lease that one database has in the operator's namespace.
func LockName(databaseKey string) string {
	return "dbupgrade-" + hash(databaseKey)[:32]
}

// hash is stable: encoding/json sorts the keys of maps.
func hash(v any) string {
	data, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("strings cannot be encoded: %v", err))
	}
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}
