//go:build e2e

// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"encoding/pem"
	"fmt"
	"strings"

	"github.com/onsi/ginkgo/v2"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/util/cert"

	"github.com/subganapathy/automatic-db-upgrades/api/v1alpha1"
	"github.com/subganapathy/automatic-db-upgrades/tests/stage"
)

// verifyServer: the ConfigMap with the authority is missing at first, and then has another one. The URL asks for no TLS at all.
func verifyServer(s *site) {
	tb := ginkgo.GinkgoTB()
	host := "postgres." + s.server.Namespace
	chain, key, authority := selfSigned(host)
	_, _, other := selfSigned(host)
	inServer(s.server, fmt.Sprintf("umask 077; cd $PGDATA; printf %%s '%s' >server.crt; printf %%s '%s' >server.key", chain, key))
	s.exec("ALTER SYSTEM SET ssl = on")
	s.exec("SELECT pg_reload_conf()")

	s.secret(s.url())
	encrypted := map[string]string{"1_seen.sql": "CREATE TABLE seen AS SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid();\n"}
	s.create(s.push(encrypted), func(o *v1alpha1.DBUpgrade) {
		o.Spec.Database.TLS = &v1alpha1.TLSSpec{CAConfigMapRef: &v1alpha1.ConfigMapKeyRef{Name: s.name}}
	})
	s.refused("database.tls.caConfigMapRef")
	authorities := &corev1.ConfigMap{ObjectMeta: s.named()}
	for _, step := range []struct {
		ca   string
		done func()
	}{
		{other, func() { s.refused("certificate signed by unknown authority") }},
		{authority, func() { s.Ready(tb, s.name, v1alpha1.ReasonMigrationComplete) }},
	} {
		s.change(authorities, func() { authorities.Data = map[string]string{"ca.crt": step.ca} })
		s.Update(tb, s.name, retry)
		step.done()
	}
	if got := s.query("SELECT ssl::text FROM seen"); got != "true" {
		tb.Errorf("the connection had TLS: %s", got)
	}
}

// refused waits until an attempt has ended without a connection to the database, for that reason.
func (s *site) refused(why string) {
	stage.Wait(s.Team, ginkgo.GinkgoTB(), s.name, "says "+why, func(d *v1alpha1.DBUpgrade) bool {
		return stage.Reason(d) == v1alpha1.ReasonDatabaseUnreachable && strings.Contains(ready(d).Message, why)
	})
}

// selfSigned is a certificate for a host with that of its authority behind it, its key, and the authority alone.
func selfSigned(host string) (string, string, string) {
	chain, key, err := cert.GenerateSelfSignedCertKey(host, nil, nil)
	if err != nil {
		ginkgo.GinkgoTB().Fatal(err)
	}
	_, authority := pem.Decode(chain)
	return string(chain), string(key), string(authority)
}
