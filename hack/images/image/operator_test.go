// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

package image_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"debug/buildinfo"
	"errors"
	"io"
	"io/fs"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/crypto/x509roots/fallback/bundle"

	"github.com/subganapathy/automatic-db-upgrades/hack/images/image"
)

const (
	repository = "../../.."
	version    = "v1.2.3-test"
	// maxSize is how many bytes an image of the operator may have in a registry: reached, somebody linked something large by mistake.
	maxSize = 40 << 20
)

// TestOperator builds the image from what a container engine would get to see of the checkout.
func TestOperator(t *testing.T) {
	images := command(t)
	checkout := t.TempDir()
	copyContext(t, repository, checkout)
	built := map[string]v1.Image{} // by platform
	for _, entry := range operator(t, images, checkout, "linux/amd64,linux/arm64") {
		t.Run(entry.platform, func(t *testing.T) { testOperatorImage(t, entry.img, entry.platform) })
		built[entry.platform] = entry.img
	}
	if len(built) != 2 {
		t.Errorf("the index has %d platforms, and should have two", len(built))
	}
	host, ok := built[image.Host().String()]
	if !ok {
		unable(t, "there is no image for this machine's platform")
	}

	t.Run("reproducible", func(t *testing.T) {
		elsewhere := filepath.Join(t.TempDir(), "another name")
		copyContext(t, checkout, elsewhere)
		t.Setenv("GOFLAGS", "-tags=other")
		again := operator(t, images, elsewhere, "host")
		if got, want := digest(t, again[0].img), digest(t, host); got != want {
			t.Errorf("a copy of the checkout gives %s, and the checkout %s", got, want)
		}
	})
	t.Run("runs", func(t *testing.T) { testOperatorRuns(t, unpack(t, host)) })
}

type platformImage struct {
	platform string
	img      v1.Image
}

// operator builds the image from a checkout, and returns what it finds in the index.
func operator(t *testing.T, images, checkout, platforms string) []platformImage {
	t.Helper()
	index, ok := build(t, images, checkout, "operator", "--version="+version, "--platform="+platforms).(v1.ImageIndex)
	if !ok {
		t.Fatal("no index was built")
	}
	manifest, err := index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	if want := image.OperatorConfig(version).Labels; !reflect.DeepEqual(manifest.Annotations, want) {
		t.Errorf("the annotations are %q, and should be %q", manifest.Annotations, want)
	}
	var found []platformImage
	for _, entry := range manifest.Manifests {
		img, err := index.Image(entry.Digest)
		if err != nil {
			t.Fatal(err)
		}
		found = append(found, platformImage{entry.Platform.String(), img})
	}
	return found
}

func testOperatorImage(t *testing.T, img v1.Image, platform string) {
	config, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	if got := config.Platform().String(); got != platform {
		t.Errorf("the image is for %s, and the index says %s", got, platform)
	}
	if want := image.OperatorConfig(version); !reflect.DeepEqual(config.Config, want) {
		t.Errorf("the configuration is %+v, and should be %+v", config.Config, want)
	}
	manifest, err := img.Manifest()
	if err != nil {
		t.Fatal(err)
	}
	if size := manifest.Layers[0].Size; size > maxSize {
		t.Errorf("the layer has %d bytes, and may have %d", size, maxSize)
	}
	var names []string
	for _, header := range headers(t, img) {
		names = append(names, header.Name)
		if header.Mode != 0o755 || header.Uid != 0 || header.Gid != 0 || header.ModTime.Unix() != 0 {
			t.Errorf("unexpected header: %+v", header)
		}
	}
	if want := []string{"manager", "runner"}; !slices.Equal(names, want) {
		t.Errorf("the image holds %q, and should hold %q", names, want)
	}
}

// testOperatorRuns runs the programs as the image's user, with nothing but the image's files.
func testOperatorRuns(t *testing.T, root string) {
	for name, args := range map[string][]string{"manager": {"--version"}, "runner": {"version"}} {
		output, err := contained(t, root, "/"+name, args...).CombinedOutput()
		if got := strings.TrimSpace(string(output)); err != nil || got != version {
			t.Errorf("%s %q says %q, and should say %q (error: %v)", name, args, got, version, err)
		}
		info, err := buildinfo.ReadFile(filepath.Join(root, name))
		if err != nil {
			t.Fatal(err)
		}
		const roots = "golang.org/x/crypto/x509roots/fallback"
		if !slices.ContainsFunc(info.Deps, func(m *debug.Module) bool { return m.Path == roots }) {
			t.Errorf("%s has no roots of its own, since it lacks %s", name, roots)
		}
	}

	// No test has a certificate of a public authority. But a certificate that claims to be of one is refused with that authority's name,
	// and that shows where the runner looked.
	authority, url := pretender(t)
	fetch := contained(t, root, "/runner", "fetch", "--image="+strings.TrimPrefix(url, "https://")+"/app:v1", "--out=/", "--termination-log=/dev/null")
	output, err := fetch.CombinedOutput()
	if err == nil || !strings.Contains(string(output), "candidate authority certificate \\\""+authority) {
		t.Errorf("the runner did not check the registry's certificate by its own roots, such as %s: %s", authority, output)
	}
}

// contained is a command that sees no other files than those below root, as the operator's user and without an environment.
func contained(t *testing.T, root, name string, args ...string) *exec.Cmd {
	t.Helper()
	command := exec.CommandContext(t.Context(), name, args...)
	command.Dir = "/"
	command.Env = []string{"HOME=/"}
	command.SysProcAttr = &syscall.SysProcAttr{Chroot: root, Credential: &syscall.Credential{Uid: 65532, Gid: 65532}}
	return command
}

// pretender starts a server whose certificate names a public authority as its issuer, without that authority's signature. It returns the
// authority's name and the server's URL.
func pretender(t *testing.T) (string, string) {
	t.Helper()
	var authority *x509.Certificate
	for root := range bundle.Roots() {
		parsed, err := x509.ParseCertificate(root.Certificate)
		if err != nil {
			t.Fatal(err)
		}
		if root.Constraint == nil && parsed.Subject.CommonName != "" && (authority == nil || parsed.NotAfter.After(authority.NotAfter)) {
			authority = parsed
		}
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(1), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	issuer := &x509.Certificate{RawSubject: authority.RawSubject, SubjectKeyId: authority.SubjectKeyId}
	signed, err := x509.CreateCertificate(rand.Reader, leaf, issuer, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(http.NotFoundHandler())
	server.TLS = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{signed}, PrivateKey: key}}}
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	t.Cleanup(server.Close)
	return authority.Subject.CommonName, server.URL
}

// TestDockerfileAgrees: nobody here can run it, so its text is compared with the image that is built without it.
func TestDockerfileAgrees(t *testing.T) {
	content, err := os.ReadFile(filepath.Join(repository, "Dockerfile"))
	if err != nil {
		t.Fatal(err)
	}
	dockerfile := strings.ReplaceAll(string(content), "\\\n", "")
	config := image.OperatorConfig("$VERSION")
	_, final, _ := strings.Cut(dockerfile, "\nFROM scratch\n")
	for instruction, want := range map[string]string{
		"USER":       config.User,
		"WORKDIR":    config.WorkingDir,
		"ENTRYPOINT": `["` + strings.Join(config.Entrypoint, `", "`) + `"]`,
		"COPY":       "--from=build /out/manager /out/runner /",
		"ARG":        "VERSION=unknown",
	} {
		got := regexp.MustCompile(`(?m)^`+instruction+` (.*)$`).FindAllStringSubmatch(final, -1)
		if len(got) != 1 || got[0][1] != want {
			t.Errorf("%s is %q, and should be %s", instruction, got, want)
		}
	}
	labels := map[string]string{}
	for _, label := range regexp.MustCompile(`(org\.opencontainers\.[\w.]+)=("[^"]*"|\S+)`).FindAllStringSubmatch(final, -1) {
		labels[label[1]] = strings.Trim(label[2], `"`)
	}
	if !reflect.DeepEqual(labels, config.Labels) {
		t.Errorf("the labels are %q, and should be %q", labels, config.Labels)
	}
	if !regexp.MustCompile(`(?m)^RUN .* GOOS=\$TARGETOS GOARCH=\$TARGETARCH make build BIN=/out VERSION=\$VERSION$`).MatchString(dockerfile) {
		t.Error("the binaries are not built by the Makefile")
	}
	module, err := os.ReadFile(filepath.Join(repository, "go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	language := regexp.MustCompile(`(?m)^go (\d+\.\d+)`).FindSubmatch(module)[1]
	if from := "FROM --platform=$BUILDPLATFORM golang:" + string(language) + " AS build\n"; !strings.Contains(dockerfile, from) {
		t.Errorf("there is no %s", from)
	}
}

// copyContext copies what .dockerignore lets a container engine see.
func copyContext(t *testing.T, from, to string) {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(from, ".dockerignore"))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(content)) {
		pattern, ok := strings.CutPrefix(strings.TrimSpace(line), "!")
		if !ok {
			continue
		}
		found, err := filepath.Glob(filepath.Join(from, pattern))
		if err != nil || len(found) == 0 {
			t.Fatalf(".dockerignore lets %s pass, which is not there (error: %v)", pattern, err)
		}
		for _, name := range found {
			copyTree(t, name, filepath.Join(to, filepath.Base(name)))
		}
	}
	copyTree(t, filepath.Join(from, ".dockerignore"), filepath.Join(to, ".dockerignore"))
}

func copyTree(t *testing.T, from, to string) {
	t.Helper()
	err := filepath.WalkDir(from, func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.Name() == "testdata" {
			return filepath.SkipDir
		}
		if entry.IsDir() || strings.HasSuffix(name, "_test.go") {
			return nil
		}
		data, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		inside, err := filepath.Rel(from, name)
		if err != nil {
			return err
		}
		file := filepath.Join(to, inside)
		return errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, data, 0o644))
	})
	if err != nil {
		t.Fatal(err)
	}
}
