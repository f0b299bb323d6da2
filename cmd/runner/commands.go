// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/subganapathy/automatic-db-upgrades/api/v1alpha1"
	"github.com/subganapathy/automatic-db-upgrades/internal/directory"
	"github.com/subganapathy/automatic-db-upgrades/internal/fetch"
	"github.com/subganapathy/automatic-db-upgrades/internal/lint"
	"github.com/subganapathy/automatic-db-upgrades/internal/migrate"
	"github.com/subganapathy/automatic-db-upgrades/internal/result"
)

func fetchCommand() (*flag.FlagSet, step) {
	var o fetch.Options
	flags := newFlags("fetch", "Takes the directory of migrations out of a container image.")
	flags.StringVar(&o.Image, "image", "", "`reference` of the image, with tag or digest")
	flags.StringVar(&o.Dir, "dir", "/migrations", "absolute `path` of the directory in the image")
	flags.StringVar(&o.Tarball, "tarball", "", "`file` that holds the image already, as \"crane export\" writes it; no registry is asked then")
	project := flags.String("atlas-project", "", "`file` to write for the Atlas command line, which tells it of the directory and of DATABASE_URL")
	flags.StringVar(&o.Out, "out", "", "local `directory` to put the files into; it must exist and be empty")
	flags.Func("pull-secret", "`directory` where a pull secret is mounted; may be repeated", appendTo(&o.PullSecrets))
	flags.BoolVar(&o.PlainHTTP, "plain-http", false, "ask registries over HTTP where they do not speak HTTPS")
	flags.Func("allowed-prefix", "`registry or repository` that the image must lie in; may be repeated, and none allows all", appendTo(&o.AllowedPrefixes))
	flags.Int64Var(&o.MaxBytes, "max-bytes", 0, "most `bytes` that the directory may hold; 0 is the default of the program")
	flags.IntVar(&o.MaxFiles, "max-files", 0, "most `files` that it may hold; 0 is the default of the program")
	return flags, func(ctx context.Context, log *slog.Logger) result.Result {
		o.Log = log
		got, err := fetch.Run(ctx, o)
		if err == nil && *project != "" {
			err = fetch.WriteAtlasProject(*project, o.Out)
		}
		if err != nil {
			return fetchFailed(err, log)
		}
		return result.Result{Image: got.Image}
	}
}

func loginCommand() (*flag.FlagSet, step) {
	var o fetch.Options
	flags := newFlags("login", "Writes a docker configuration with the login for the registry of a container image.")
	flags.StringVar(&o.Image, "image", "", "`reference` of the image, with tag or digest")
	flags.Func("pull-secret", "`directory` where a pull secret is mounted; may be repeated", appendTo(&o.PullSecrets))
	out := flags.String("out", "", "`file` to write; it must not exist")
	return flags, func(_ context.Context, log *slog.Logger) result.Result {
		o.Log = log
		if err := fetch.Login(o, *out); err != nil {
			return fetchFailed(err, log)
		}
		return result.Result{}
	}
}

func fetchFailed(err error, log *slog.Logger) result.Result {
	class := v1alpha1.Internal
	var known *fetch.Error
	if errors.As(err, &known) {
		class = known.Class
	}
	log.Error("fetch failed", "class", string(class), "error", err.Error())
	return result.Failed(v1alpha1.Failure{Class: class, Error: err.Error()})
}

func migrateCommand(getenv func(string) string) (*flag.FlagSet, step) {
	o := migrate.Options{Version: version}
	flags := newFlags("migrate", "Applies the pending files of a directory to a database.")
	url := databaseFlags(flags, &o, getenv)
	flags.Func("lock-timeout", fmt.Sprintf("how `long` to wait for another run in the same database (default %s)", migrate.DefaultLockTimeout), durationTo(&o.LockTimeout))
	flags.Func("statement-lock-timeout", "how `long` a statement may wait for a lock, before it is tried again a few times (default up to the database)", durationTo(&o.StatementLockTimeout))
	flags.Func("statement-timeout", "how `long` a statement may run (default up to the database)", durationTo(&o.StatementTimeout))
	flags.Func("resolve", "`answer` to a doubt: redo:ID to have its statement executed again, skip:ID if it took effect", func(s string) error {
		var err error
		o.Resolve, err = migrate.ParseResolution(s)
		return err
	})
	return flags, func(ctx context.Context, log *slog.Logger) result.Result {
		o.Log, o.URL = log, url()
		return migrate.Run(ctx, o)
	}
}

func planCommand(getenv func(string) string) (*flag.FlagSet, step) {
	o := migrate.Options{Version: version, Plan: true}
	flags := newFlags("plan", "Tells which files would be applied to a database, in which order, and what is to be said against them. It changes nothing.")
	url := databaseFlags(flags, &o, getenv)
	return flags, func(ctx context.Context, log *slog.Logger) result.Result {
		o.Log, o.URL = log, url()
		return migrate.Run(ctx, o)
	}
}

// databaseFlags are those of all that has to do with a database. It returns where the URL will be.
func databaseFlags(flags *flag.FlagSet, o *migrate.Options, getenv func(string) string) func() string {
	variable := flags.String("url-env", "DATABASE_URL", "`name` of the environment variable that holds the URL of the database, postgres://… or mysql://…")
	flags.StringVar(&o.Dir, "dir", "/migrations", "`directory` of migrations")
	flags.StringVar(&o.ImageRoot, "image-root", "", "`directory` where an image is mounted, in which --dir is an absolute path")
	oneOf(flags, &o.Format, "format", "of the directory", formats...)
	flags.StringVar(&o.Baseline, "baseline", "", "`version` that a database without a history of migrations is taken to be at")
	flags.BoolVar(&o.AllowDirty, "allow-dirty", false, "apply everything to a database that has no history and is not empty")
	oneOf(flags, &o.ExecOrder, "exec-order", "what becomes of files that are older than the last one applied", v1alpha1.ExecOrderLinear, v1alpha1.ExecOrderLinearSkip, v1alpha1.ExecOrderNonLinear)
	oneOf(flags, &o.TxMode, "tx-mode", "what a transaction holds", v1alpha1.TxModeFile, v1alpha1.TxModeAll, v1alpha1.TxModeNone)
	flags.StringVar(&o.RevisionsSchema, "revisions-schema", "", "`schema` (MySQL: database) that holds the history (default that of the URL, or atlas_schema_revisions)")
	flags.StringVar(&o.ToVersion, "to-version", "", "last `version` to apply (default all)")
	oneOf(flags, &o.Lint, "lint", "what becomes of findings about the pending files", v1alpha1.LintWarn, v1alpha1.LintOff, v1alpha1.LintEnforce)
	oneOf(flags, &o.TLS.Mode, "tls-mode", "of the connection (default up to the URL)", "", v1alpha1.TLSDisable, v1alpha1.TLSRequire, v1alpha1.TLSVerifyFull)
	flags.StringVar(&o.TLS.CAFile, "tls-ca", "", "`file` with the certificates, in PEM, of the authorities to trust; has certificates verified")
	flags.Func("deadline", "how `long` the run may take, waiting included: 90s, 2h, or a number of seconds (default no limit)", durationTo(&o.Deadline))
	return func() string { return getenv(*variable) }
}

func lintCommand() (*flag.FlagSet, step) {
	var o directory.Options
	var txMode v1alpha1.TxMode
	flags := newFlags("lint", "Tells what is to be said against the migrations of a directory: whether it is intact, and what in its files may lose data or stop the app.")
	flags.StringVar(&o.Dir, "dir", "/migrations", "`directory` of migrations")
	oneOf(flags, &o.Format, "format", "of the directory", formats...)
	oneOf(flags, &o.Dialect, "dialect", "of its statements", directory.Postgres, directory.MySQL)
	oneOf(flags, &txMode, "tx-mode", "with which they will be applied", v1alpha1.TxModeFile, v1alpha1.TxModeAll, v1alpha1.TxModeNone)
	latest := flags.Int("latest", 0, "`number` of files to look at, the last ones; 0 for all")
	return flags, func(_ context.Context, log *slog.Logger) result.Result {
		dir, err := directory.Read(o)
		if err != nil {
			return directoryFailed(err, log)
		}
		var files []*directory.File
		all, err := dir.Files()
		if err != nil {
			return directoryFailed(err, log)
		}
		if *latest > 0 && *latest < len(all) {
			all = all[len(all)-*latest:]
		}
		for _, f := range all {
			file, _ := dir.File(f.Version())
			if err := file.Err(); err != nil {
				return directoryFailed(err, log)
			}
			files = append(files, file)
		}
		return lintResult(lint.Run(lint.Options{Dialect: o.Dialect, Config: dir.Config(), TxMode: txMode}, files), len(files), log)
	}
}

func lintResult(findings []v1alpha1.Finding, files int, log *slog.Logger) result.Result {
	lint.Log(findings, log)
	status := &v1alpha1.MigrationStatus{Findings: findings}
	if err := lint.Enforce(findings); err != nil {
		status.Failure = &err.Failure
	}
	log.Info("directory looked at", "files", files, "findings", len(findings))
	return result.Result{Migration: status}
}

func directoryFailed(err error, log *slog.Logger) result.Result {
	f := v1alpha1.Failure{Class: v1alpha1.Internal, Error: err.Error()}
	if known, ok := errors.AsType[*result.Error](err); ok {
		f = known.Failure
	}
	log.Error("directory cannot be used", "class", string(f.Class), "error", f.Error)
	return result.Failed(f)
}

var formats = []v1alpha1.Format{
	v1alpha1.FormatAtlas, v1alpha1.FormatGolangMigrate, v1alpha1.FormatGoose, v1alpha1.FormatFlyway, v1alpha1.FormatLiquibase, v1alpha1.FormatDBMate,
}

// oneOf is a flag with one of some values, the first of them by default.
func oneOf[T ~string](flags *flag.FlagSet, to *T, name, about string, values ...T) {
	*to = values[0]
	var words []string
	for _, v := range values {
		if v != "" {
			words = append(words, string(v))
		}
	}
	choice := strings.Join(words, ", ")
	if *to != "" {
		about += fmt.Sprintf(" (default %s)", *to)
	}
	flags.Func(name, fmt.Sprintf("%s; `choice` of %s", about, choice), func(s string) error {
		if !slices.Contains(words, s) {
			return fmt.Errorf("must be one of %s", choice)
		}
		*to = T(s)
		return nil
	})
}

// durationTo reads a positive duration; a bare number is one of seconds.
func durationTo(to *time.Duration) func(string) error {
	return func(s string) error {
		if _, err := strconv.Atoi(s); err == nil {
			s += "s"
		}
		d, err := time.ParseDuration(s)
		if err != nil {
			return err
		}
		if d <= 0 {
			return errors.New("must be positive")
		}
		*to = d
		return nil
	}
}

func appendTo(list *[]string) func(string) error {
	return func(s string) error {
		*list = append(*list, s)
		return nil
	}
}
