// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

// Command runner is what runs inside the Job of an attempt: "fetch" takes the migrations out of their image, "migrate" applies them, "plan" tells what
// that would be. "login" prepares the login of somebody else who pulls the image, and "lint" looks at a directory without any database. All of them are
// there for people too.
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
	"strings"
	"syscall"

	_ "golang.org/x/crypto/x509roots/fallback" // roots for an image that has none; those of the system win

	"github.com/subganapathy/automatic-db-upgrades/api/v1alpha1"
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
	code := run(ctx, os.Args[1:], os.Getenv, os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// step is what a subcommand does once its flags are parsed.
type step func(ctx context.Context, log *slog.Logger) result.Result

// run is the whole program; it returns the exit code.
func run(ctx context.Context, args []string, getenv func(string) string, stdout, stderr io.Writer) int {
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
		flags, do = migrateCommand(getenv)
	case "plan":
		flags, do = planCommand(getenv)
	case "lint":
		flags, do = lintCommand()
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
	path := flags.String("termination-log", terminationLog, "`file` that gets the result, as JSON")
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
	log := newLog(stdout, args[0])
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
	case path == terminationLog && errors.Is(err, fs.ErrNotExist): // not run by a kubelet
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
	fmt.Fprint(w, `Applies migrations: in the Job of a DBUpgrade, or by hand.

Usage: runner fetch|lint|plan|migrate|login|version [flags]

  fetch    takes the directory of migrations out of a container image
  lint     tells what is to be said against a directory of migrations, without any database
  plan     tells what would be applied to the database in DATABASE_URL, and changes nothing
  migrate  applies it
  login    writes a docker configuration for whoever else pulls the image
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
