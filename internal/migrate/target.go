// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

package migrate

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/url"
	"os"
	"strings"

	"github.com/go-sql-driver/mysql"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgconn/ctxwatch"

	"github.com/subganapathy/automatic-db-upgrades/api/v1alpha1"
	"github.com/subganapathy/automatic-db-upgrades/internal/directory"
	"github.com/subganapathy/automatic-db-upgrades/internal/result"
)

// target is a database, as its URL names it.
type target struct {
	dialect  directory.Dialect
	database string
	user     string
	schema   string // that the URL is bound to: it has the history and must be empty before the first migration; "" for the whole database (MySQL: server)
	connect  func(context.Context, limits) (session, error)
}

// parseTarget reads a database URL. No error repeats any of it: where a URL cannot be parsed, nobody knows which part of it is the password.
func parseTarget(raw string, security TLS) (target, error) {
	if raw == "" {
		return target{}, unusable("is empty")
	}
	scheme, _, _ := strings.Cut(raw, "://")
	var parse func(*url.URL, TLS) (target, error)
	switch scheme {
	case "postgres", "postgresql":
		parse = parsePostgres
	case "mysql", "mariadb", "maria":
		parse = parseMySQL
	default:
		return target{}, unusable("does not begin with postgres://, postgresql://, mysql:// or mariadb://: only PostgreSQL, MySQL and MariaDB are supported")
	}
	if security.CAFile != "" && security.mode() != v1alpha1.TLSVerifyFull {
		return target{}, result.Errorf(v1alpha1.DatabaseUnreachable, "database.tls.mode (--tls-mode) is %s, which verifies nothing, but there are certificates to verify with: "+
			"set it to VerifyFull, or leave them out", security.Mode)
	}
	u, err := url.Parse(raw)
	if err != nil {
		return target{}, unusable("cannot be parsed: in a user name or password, characters such as @ : / ? # % must be percent-encoded")
	}
	return parse(u, security)
}

func unusable(why string) error {
	return result.Errorf(v1alpha1.DatabaseUnreachable, "the database URL %s", why)
}

// sslModes are the names that PostgreSQL has for the modes of TLS.
var sslModes = map[v1alpha1.TLSMode]string{
	v1alpha1.TLSDisable: "disable", v1alpha1.TLSRequire: "require", v1alpha1.TLSVerifyFull: "verify-full",
}

func parsePostgres(u *url.URL, security TLS) (target, error) {
	query := u.Query()
	if mode := security.mode(); mode != "" {
		query.Set("sslmode", sslModes[mode])
		query.Del("sslrootcert")
		if security.CAFile != "" {
			if _, err := security.roots(); err != nil {
				return target{}, err
			}
			query.Set("sslrootcert", security.CAFile)
		}
		u.RawQuery = query.Encode()
	}
	config, err := pgx.ParseConfig(u.String())
	if err != nil {
		return target{}, unusable("has a parameter that cannot be used: " + parameterWords(err))
	}
	schema := query.Get("search_path")
	if strings.Contains(schema, ",") {
		return target{}, unusable("has more than one schema in search_path: it says where the history of migrations is")
	}
	if !query.Has("connect_timeout") {
		config.ConnectTimeout = connectTimeout
	}
	if config.RuntimeParams["application_name"] == "" {
		config.RuntimeParams["application_name"] = programName
	}
	// Migrations change types and tables while the connection lives, which prepared statements would not survive.
	config.DefaultQueryExecMode = pgx.QueryExecModeExec
	config.DialFunc = newDialer().DialContext
	config.BuildContextWatcherHandler = func(conn *pgconn.PgConn) ctxwatch.Handler {
		return &canceller{conn: conn}
	}
	return target{
		dialect: directory.Postgres, database: config.Database, user: config.User, schema: schema,
		connect: func(ctx context.Context, l limits) (session, error) { return connectPostgres(ctx, config, l) },
	}, nil
}

// parameterWords is the reason in an error of pgx's parser, which puts the URL before it and, in brackets, often a part of the URL behind it.
func parameterWords(err error) string {
	var parse *pgconn.ParseConfigError
	if !errors.As(err, &parse) {
		return "it is not known which"
	}
	_, reason, ok := strings.Cut(parse.Error(), "`: ")
	if !ok {
		return "it is not known which"
	}
	what, detail, _ := strings.Cut(reason, " (")
	if detail == "sslmode is invalid)" {
		return "sslmode is invalid"
	}
	return what
}

// parseMySQL takes the parameters of the Go driver, but for those that would let the server have files or passwords of ours.
func parseMySQL(u *url.URL, security TLS) (target, error) {
	config, err := mysql.ParseDSN("/?" + u.RawQuery)
	if err != nil {
		return target{}, unusable("has a parameter that cannot be used") // the driver's words repeat it
	}
	config.User = u.User.Username()
	config.Passwd, _ = u.User.Password()
	config.Net, config.Addr = "tcp", u.Host
	if _, _, err := net.SplitHostPort(u.Host); err != nil {
		config.Addr = net.JoinHostPort(strings.Trim(u.Host, "[]"), "3306")
	}
	config.DBName = strings.TrimPrefix(u.Path, "/")
	if strings.Contains(config.DBName, "/") {
		return target{}, unusable("names more than one database: its path must be that of one, or empty")
	}
	if config.Timeout == 0 {
		config.Timeout = connectTimeout
	}
	dialer := newDialer()
	config.DialFunc = func(ctx context.Context, network, address string) (net.Conn, error) {
		ctx, cancel := context.WithTimeout(ctx, config.Timeout)
		defer cancel()
		return dialer.DialContext(ctx, network, address)
	}
	config.Logger = &mysql.NopLogger{} // what it would say comes as an error too
	config.ParseTime, config.InterpolateParams = true, true
	config.MultiStatements, config.AllowAllFiles, config.AllowOldPasswords, config.AllowCleartextPasswords = false, false, false, false
	config.ConnectionAttributes = "program_name:" + programName
	if err := secureMySQL(config, u, security); err != nil {
		return target{}, err
	}
	return target{
		dialect: directory.MySQL, database: config.DBName, user: config.User, schema: config.DBName,
		connect: func(ctx context.Context, l limits) (session, error) { return connectMySQL(ctx, config, l) },
	}, nil
}

// secureMySQL sets TLS up. Where nobody says anything, it is used if the server has it, as with PostgreSQL.
func secureMySQL(config *mysql.Config, u *url.URL, security TLS) error {
	switch security.mode() {
	case v1alpha1.TLSDisable:
		config.TLS, config.TLSConfig = nil, "false"
	case v1alpha1.TLSRequire:
		config.TLS = &tls.Config{InsecureSkipVerify: true} //nolint:gosec // that is what the mode says
	case v1alpha1.TLSVerifyFull:
		roots, err := security.roots()
		if err != nil {
			return err
		}
		config.TLS = &tls.Config{RootCAs: roots, ServerName: u.Hostname()}
	default:
		if !u.Query().Has("tls") {
			config.TLS, config.AllowFallbackToPlaintext = &tls.Config{InsecureSkipVerify: true}, true //nolint:gosec // better than none
			return nil
		}
	}
	if config.TLS != nil {
		config.TLSConfig, config.AllowFallbackToPlaintext = "", false
	}
	return nil
}

// TLS says how the connection is secured; what it says goes before the URL's own parameters.
type TLS struct {
	// Mode of TLS. Empty is VerifyFull where there is a CAFile, and else up to the URL.
	Mode v1alpha1.TLSMode
	// CAFile holds the certificates, in PEM, of the authorities to trust. Empty for those of the system, or the public ones that the program brings along.
	CAFile string
}

func (t TLS) mode() v1alpha1.TLSMode {
	if t.Mode == "" && t.CAFile != "" {
		return v1alpha1.TLSVerifyFull
	}
	return t.Mode
}

// roots are the authorities to trust, nil for those of the system.
func (t TLS) roots() (*x509.CertPool, error) {
	if t.CAFile == "" {
		return nil, nil
	}
	data, err := os.ReadFile(t.CAFile)
	if err != nil {
		return nil, result.Errorf(v1alpha1.DatabaseUnreachable, "the certificates of database.tls.caConfigMapRef (--tls-ca) cannot be read: %v; "+
			"create the ConfigMap, with the key", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(data) {
		return nil, result.Errorf(v1alpha1.DatabaseUnreachable, "the file of database.tls.caConfigMapRef (--tls-ca) holds no certificate in PEM: put those of the authorities into it")
	}
	return pool, nil
}
