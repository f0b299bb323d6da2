// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

// Command images builds the operator's image, and those of the local cluster and its demo, without a container engine.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/subganapathy/automatic-db-upgrades/hack/images/image"
)

const usage = `Builds images without a container engine, reproducibly, and says their digest and size.

Usage: go run ./hack/images operator|app|postgres|mariadb [flags]

  operator  the operator: /manager and /runner
  app       the files of a directory, such as migrations, and a command
  postgres  PostgreSQL, from this machine's Debian packages
  mariadb   MariaDB, from this machine's Debian packages

Run it in the checkout's root. "go run ./hack/images <image> --help" lists the flags.
`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	err := run(ctx, os.Args[1:], os.Stdout)
	stop()
	if errors.Is(err, flag.ErrHelp) {
		return
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// build makes an image once the flags are parsed.
type build func(ctx context.Context) (image.Pushable, error)

func run(ctx context.Context, args []string, stdout io.Writer) error {
	if len(args) == 0 {
		return fmt.Errorf("which image?\n%s", usage)
	}
	flags := flag.NewFlagSet("images "+args[0], flag.ContinueOnError)
	var make build
	switch args[0] {
	case "operator":
		make = operator(flags)
	case "app":
		make = app(flags)
	case "postgres":
		make = func(ctx context.Context) (image.Pushable, error) { return image.Postgres(ctx) }
	case "mariadb":
		make = func(ctx context.Context) (image.Pushable, error) { return image.MariaDB(ctx) }
	case "help", "-h", "-help", "--help":
		_, err := io.WriteString(stdout, usage)
		return err
	default:
		return fmt.Errorf("unknown image %q\n%s", args[0], usage)
	}
	push := flags.String("push", "", "`reference` to push to, such as registry.example.com/app:v1")
	plainHTTP := flags.Bool("plain-http", false, "push over HTTP where the registry does not speak HTTPS")
	out := flags.String("out", "", "`directory` to write as an OCI layout; an older one there is replaced")
	if err := flags.Parse(args[1:]); err != nil {
		return err
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("unexpected argument %q", flags.Arg(0))
	}
	built, err := make(ctx)
	if err != nil {
		return err
	}
	if err := describe(stdout, built); err != nil {
		return err
	}
	if *out != "" {
		if err := image.Write(*out, built); err != nil {
			return err
		}
		fmt.Fprintf(stdout, "written to %s\n", *out)
	}
	if *push != "" {
		pushed, err := image.Push(ctx, *push, built, *plainHTTP)
		if err != nil {
			return err
		}
		fmt.Fprintf(stdout, "pushed %s\n", pushed)
	}
	return nil
}

func operator(flags *flag.FlagSet) build {
	version := flags.String("version", "unknown", "`version` that the programs and the image tell")
	list := flags.String("platform", "linux/amd64,linux/arm64", "`platforms`, separated by commas; \"host\" is this machine's")
	return func(ctx context.Context) (image.Pushable, error) {
		var platforms []v1.Platform
		for name := range strings.SplitSeq(*list, ",") {
			if name == "host" {
				platforms = append(platforms, image.Host())
				continue
			}
			platform, err := v1.ParsePlatform(name)
			if err != nil {
				return nil, err
			}
			platforms = append(platforms, *platform)
		}
		return image.Operator(ctx, ".", *version, platforms)
	}
}

func app(flags *flag.FlagSet) build {
	dir := flags.String("dir", "", "`directory` whose files lie at the root of the image")
	command := flags.String("command", "", "`command` that the image runs, words separated by blanks: a static program in the directory, or /pause")
	return func(ctx context.Context) (image.Pushable, error) {
		if *dir == "" {
			return nil, errors.New("--dir is missing")
		}
		words := strings.Fields(*command)
		if len(words) == 0 || words[0] != "/pause" {
			return image.App(*dir, words)
		}
		program, err := image.Program(ctx, ".", "./hack/images/pause", words[0])
		if err != nil {
			return nil, err
		}
		return image.App(*dir, words, program)
	}
}

// describe prints digest and sizes.
func describe(w io.Writer, built image.Pushable) error {
	index, ok := built.(v1.ImageIndex)
	if !ok {
		return describeImage(w, built.(v1.Image))
	}
	digest, err := index.Digest()
	if err != nil {
		return err
	}
	fmt.Fprintf(w, "index        %s\n", digest)
	manifest, err := index.IndexManifest()
	if err != nil {
		return err
	}
	for _, entry := range manifest.Manifests {
		img, err := index.Image(entry.Digest)
		if err != nil {
			return err
		}
		if err := describeImage(w, img); err != nil {
			return err
		}
	}
	return nil
}

func describeImage(w io.Writer, img v1.Image) error {
	config, err := img.ConfigFile()
	if err != nil {
		return err
	}
	digest, err := img.Digest()
	if err != nil {
		return err
	}
	compressed, unpacked, err := image.Size(img)
	if err != nil {
		return err
	}
	const mib = 1 << 20
	_, err = fmt.Fprintf(w, "%-12s %s  %.1f MiB compressed, %.1f MiB unpacked\n",
		config.Platform(), digest, float64(compressed)/mib, float64(unpacked)/mib)
	return err
}
