// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

package migrate

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/subganapathy/automatic-db-upgrades/api/v1alpha1"
	"github.com/subganapathy/automatic-db-upgrades/tests/mariadb"
	"github.com/subganapathy/automatic-db-upgrades/tests/migrations"
	"github.com/subganapathy/automatic-db-upgrades/tests/postgres"
	"github.com/subganapathy/automatic-db-upgrades/tests/process"
)

// authority is one that certificates are signed by.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	file string // PEM
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority of a test"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	a := &authority{cert: cert, key: key, file: filepath.Join(t.TempDir(), "ca.crt")}
	write(t, a.file, "CERTIFICATE", der)
	return a
}

// issue makes a certificate for 127.0.0.1, and files that the user may read.
func (a *authority) issue(t *testing.T, user string) (string, string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "tls") // the parents of t.TempDir are for its owner only
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	cert, keyFile := filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key")
	write(t, cert, "CERTIFICATE", der)
	write(t, keyFile, "PRIVATE KEY", private)
	owner, err := process.Unprivileged(user)
	if err != nil {
		t.Fatal(err)
	}
	if err := process.Own(owner, dir, cert, keyFile); err != nil {
		t.Fatal(err)
	}
	return cert, keyFile
}

func write(t *testing.T, file, kind string, der []byte) {
	t.Helper()
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestTLS: what the options say goes before the URL, and VerifyFull means both the authority and the host.
func TestTLS(t *testing.T) {
	ca, other := newAuthority(t), newAuthority(t)
	garbage := filepath.Join(t.TempDir(), "ca.crt")
	if err := os.WriteFile(garbage, []byte("no certificate"), 0o600); err != nil {
		t.Fatal(err)
	}
	pgCert, pgKey := ca.issue(t, "postgres")
	mysqlCert, mysqlKey := ca.issue(t, "nobody")
	secured := postgres.Start(t, postgres.WithSetting("ssl", "on"), postgres.WithSetting("ssl_cert_file", pgCert), postgres.WithSetting("ssl_key_file", pgKey))
	securedMaria := mariadb.Start(t, mariadb.WithSetting("ssl-cert", mysqlCert), mariadb.WithSetting("ssl-key", mysqlKey))
	engines := map[string]struct {
		plain, secured string
		encrypted      func(db string) bool
		table          string
	}{
		"PostgreSQL": {server.NewDatabase(t), secured.NewDatabase(t), func(db string) bool { return query(t, db, "SELECT ssl FROM seen") == "true" },
			"CREATE TABLE seen AS SELECT ssl::text FROM pg_stat_ssl WHERE pid = pg_backend_pid();"},
		"MariaDB": {maria.NewDatabase(t), securedMaria.NewDatabase(t), func(db string) bool { return mysqlQuery(t, db, "SELECT cipher <> '' FROM seen") == "1" },
			"CREATE TABLE seen AS SELECT VARIABLE_VALUE AS cipher FROM information_schema.SESSION_STATUS WHERE VARIABLE_NAME = 'Ssl_cipher';"},
	}
	cases := map[string]struct {
		tls       TLS
		plain     bool
		localhost bool
		words     string // of the refusal
		encrypted bool
	}{
		"up to the URL":        {},
		"require":              {tls: TLS{Mode: v1alpha1.TLSRequire}, encrypted: true},
		"require, not offered": {tls: TLS{Mode: v1alpha1.TLSRequire}, plain: true, words: "TLS"},
		"disable":              {tls: TLS{Mode: v1alpha1.TLSDisable}},
		"verified":             {tls: TLS{CAFile: ca.file}, encrypted: true},
		"verified by mode":     {tls: TLS{Mode: v1alpha1.TLSVerifyFull, CAFile: ca.file}, encrypted: true},
		"another authority":    {tls: TLS{CAFile: other.file}, words: "certificate"},
		"public authorities":   {tls: TLS{Mode: v1alpha1.TLSVerifyFull}, words: "certificate"},
		"another host":         {tls: TLS{CAFile: ca.file}, localhost: true, words: "certificate"},
		"verified by nobody":   {tls: TLS{Mode: v1alpha1.TLSRequire, CAFile: ca.file}, words: "VerifyFull"},
		"no file":              {tls: TLS{CAFile: "/nowhere/ca.crt"}, words: "caConfigMapRef"},
		"no certificate":       {tls: TLS{CAFile: garbage}, words: "holds no certificate"},
	}
	for engine, e := range engines {
		for name, c := range cases {
			t.Run(engine+" "+name, func(t *testing.T) {
				db := e.secured
				if c.plain {
					db = e.plain
				}
				u := mustParse(t, db)
				if engine == "MariaDB" && name == "up to the URL" {
					u.RawQuery = "tls=false"
				}
				if c.localhost {
					u.Host = "localhost:" + u.Port()
				}
				dir := migrations.Dir(t, files{"1.sql": e.table})
				got := migrateWith(t.Context(), t, Options{Dir: dir, URL: u.String(), TLS: c.tls, RevisionsSchema: fmt.Sprintf("history_%d", time.Now().UnixNano()), AllowDirty: true})
				if c.words != "" {
					mustContain(t, mustFail(t, got, v1alpha1.DatabaseUnreachable).Error, c.words)
					return
				}
				mustSucceed(t, got)
				if is := e.encrypted(db); is != c.encrypted {
					t.Errorf("encrypted: %v", is)
				}
				if engine == "MariaDB" {
					mariadb.Exec(t, db, "DROP TABLE seen")
				} else {
					postgres.Exec(t, db, "DROP TABLE seen")
				}
			})
		}
	}
}
