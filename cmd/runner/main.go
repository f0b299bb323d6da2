// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

// Command runner is what runs inside the Job of an attempt: "fetch" takes the migrations out of their image, "migrate" applies them. "login" prepares
// the login of somebody else who pulls the image.
// docs/runner.md describes its flags, exit codes and result.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"

	_ "golang.org/x/crypto/x509roots/fallback" // roots for an image that has none; those of the system win

	"github.com/subganapathy/automatic-db-upgrades/api/v1alpha1"
	"github.com/subganapathy/automatic-db-upgrades/internal/fetch"
	"github.com/subganapathy/automatic-db-upgrades/internal/migrate"
	"github.com/subganapathy/automatic-db-upgrades/internal/result"
)

// version is set by the linker.
var version = "unknown"

const (
	exitUsage      = 2
	terminationLog = "/dev/termination-log"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	code := run(ctx, os.Args[1:], os.Getenv("DATABASE_URL"), os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// step is what a subcommand does once its flags are parsed.
type step func(ctx context.Context, log *slog.Logger) result.Result

// run is the whole program; it returns the exit code.
func run(ctx context.Context, args []string, databaseURL string, stdout, stderr io.Writer) int {
	if len(args) == 0 {
		usage(stderr)
		return exitUsage
	}
	var flags *flag.FlagSet
	var do step
	switch args[0] {
	case "fetch":
		flags, do = fetchCommand()
	case "login":
		flags, do = loginCommand()
	case "migrate":
		flags, do = migrateCommand(databaseURL)
	case "help", "-h", "-help", "--help":
		usage(stdout)
		return 0
	case "version", "--version":
		fmt.Fprintln(stdout, version)
		return 0
	default:
		fmt.Fprintf(stderr, "unknown command %q\n", args[0])
		usage(stderr)
		return exitUsage
	}
	path := flags.String("termination-log", terminationLog, "`file` that gets the result, as JSON of at most 4096 bytes")
	flags.SetOutput(stderr)
	if err := flags.Parse(args[1:]); errors.Is(err, flag.ErrHelp) {
		return 0
	} else if err != nil {
		return exitUsage
	}
	if flags.NArg() > 0 {
		fmt.Fprintf(stderr, "unexpected argument %q\n", flags.Arg(0))
		return exitUsage
	}
	log := slog.New(slog.NewJSONHandler(stdout, nil)).With("step", args[0])
	return report(do(ctx, log), *path, log)
}

// report writes the result where the kubelet finds it, and returns the exit code.
func report(res result.Result, path string, log *slog.Logger) int {
	code := 0
	if f := res.Failure(); f != nil {
		code = int(result.ClassOf(f.Class).ExitCode)
	}
	err := writeResult(path, res.Encode())
	switch {
	case err == nil:
	case path == terminationLog && errors.Is(err, fs.ErrNotExist):
		log.Warn("no result was written: not run by a kubelet", "error", err.Error())
	default:
		log.Error("the result was not written", "error", err.Error())
		if code == 0 {
			code = int(result.ClassOf(v1alpha1.Internal).ExitCode)
		}
	}
	return code
}

func writeResult(path string, data []byte) error {
	mode := os.O_WRONLY | os.O_TRUNC
	if path != terminationLog { // the kubelet makes that one; elsewhere, in /dev, it would only be left lying about
		mode |= os.O_CREATE
	}
	file, err := os.OpenFile(path, mode, 0o644)
	if err != nil {
		return err
	}
	_, err = file.Write(data)
	return errors.Join(err, file.Close())
}

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

func migrateCommand(databaseURL string) (*flag.FlagSet, step) {
	o := migrate.Options{URL: databaseURL, Version: version}
	flags := newFlags("migrate", "Applies the pending files of a directory to the database that the environment variable DATABASE_URL names.")
	flags.StringVar(&o.Dir, "dir", "/migrations", "`directory` of migrations, in Atlas's format, with its atlas.sum")
	flags.StringVar(&o.ImageRoot, "image-root", "", "`directory` where an image is mounted, in which --dir is an absolute path")
	flags.Func("lock-timeout", fmt.Sprintf("how `long` to wait for another run in the same database (default %s)", migrate.DefaultLockTimeout), durationTo(&o.LockTimeout))
	flags.Func("deadline", "how `long` the run may take, waiting included: 90s, 2h, or a number of seconds (default no limit)", durationTo(&o.Deadline))
	return flags, func(ctx context.Context, log *slog.Logger) result.Result {
		o.Log = log
		return migrate.Run(ctx, o)
	}
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

func newFlags(name, about string) *flag.FlagSet {
	flags := flag.NewFlagSet("runner "+name, flag.ContinueOnError)
	flags.Usage = func() {
		fmt.Fprintf(flags.Output(), "%s\n\nUsage: runner %s [flags]\n\n", about, name)
		flags.PrintDefaults()
		fmt.Fprint(flags.Output(), exitCodes())
	}
	return flags
}

func usage(w io.Writer) {
	fmt.Fprint(w, `Runs inside the Job of a DBUpgrade.

Usage: runner fetch|login|migrate|version [flags]

  fetch    takes the directory of migrations out of a container image
  login    writes a docker configuration for whoever else pulls it
  migrate  applies it to the database in DATABASE_URL
  version  prints the version

"runner <command> --help" lists the flags.
`, exitCodes())
}

// exitCodes is the table of exit codes for the help.
func exitCodes() string {
	var b strings.Builder
	b.WriteString("\nExit codes:\n  0   done\n  2   wrong usage\n")
	for _, c := range result.Classes() {
		again := ""
		if c.Retryable {
			again = " (worth another attempt)"
		}
		fmt.Fprintf(&b, "  %-3d %s%s\n", c.ExitCode, c.Name, again)
	}
	return b.String()
}
