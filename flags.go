// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"sigs.k8s.io/controller-runtime/pkg/client/config"
	"sigs.k8s.io/controller-runtime/pkg/log/zap"

	"github.com/subganapathy/automatic-db-upgrades/internal/reference"
	"github.com/subganapathy/automatic-db-upgrades/internal/upgrade"
	"github.com/subganapathy/automatic-db-upgrades/webhooks"
)

// Values of flags.
const (
	certificatesSelf     = "self"
	certificatesProvided = "provided"
	certificatesNone     = "none"

	leaderElectionLease = "lease"
	leaderElectionNone  = "none"
)

// namespaceFile is where a pod finds the namespace that it runs in.
const namespaceFile = "/var/run/secrets/kubernetes.io/serviceaccount/namespace"

// options are what flags and environment say.
type options struct {
	showVersion bool
	log         zap.Options

	namespace       string
	watchNamespaces []string
	leaderElection  string
	workers         int
	runner          upgrade.RunnerConfig

	metricsAddress string
	metricsSecure  bool
	metricsCertDir string
	probeAddress   string

	webhookPort          int
	webhookCertificates  string
	webhookCertDir       string
	webhookService       string
	webhookSecret        string
	webhookConfiguration string
}

func (o options) selfCertificates() webhooks.SelfCertificates {
	return webhooks.SelfCertificates{
		Namespace:     o.namespace,
		Secret:        o.webhookSecret,
		Service:       o.webhookService,
		Configuration: o.webhookConfiguration,
		Dir:           o.webhookCertDir,
		Ready:         make(chan struct{}),
	}
}

// parse reads the command line. An error names the flag, its value and what it may be; flag.ErrHelp says that the help was asked for, and
// written to help.
func parse(args []string, getenv func(string) string, help io.Writer) (options, error) {
	var o options
	fs := flag.NewFlagSet("manager", flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	fs.Usage = func() {} // the package would show it for every mistake, where the error says more
	fs.BoolVar(&o.showVersion, "version", false, "Print the version and exit. Default: false.")
	o.log.BindFlags(fs)
	config.RegisterFlags(fs)
	o.bindWork(fs, getenv)
	o.bindRunner(fs, getenv)
	o.bindServing(fs)
	o.bindWebhook(fs)

	switch err := fs.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		fmt.Fprintln(help, "The manager of the DBUpgrade operator. Its flags:")
		fs.SetOutput(help)
		fs.PrintDefaults()
		return o, err
	case err != nil:
		return o, err
	case fs.NArg() > 0:
		return o, fmt.Errorf("unexpected argument %q: the manager has flags only", fs.Arg(0))
	case o.showVersion:
		return o, nil
	default:
		return o, o.complete()
	}
}

// complete checks what no flag can check alone, and fills in what only now is known to be needed.
func (o *options) complete() error {
	if o.runner.Image == "" {
		return fmt.Errorf("flag --runner-image is empty and so is the environment's OPERATOR_IMAGE: " +
			"it must name the operator's own image, which holds the runner")
	}
	if o.namespace == "" {
		data, err := os.ReadFile(namespaceFile)
		if err != nil {
			return fmt.Errorf("flag --namespace is empty, so is the environment's POD_NAMESPACE, and this is no pod: "+
				"it must name the operator's own namespace: %w", err)
		}
		o.namespace = strings.TrimSpace(string(data))
	}
	return nil
}

func (o *options) bindWork(fs *flag.FlagSet, getenv func(string) string) {
	o.namespace = getenv("POD_NAMESPACE")
	fs.Func("namespace", "`name` of the operator's own namespace, where its locks are. Default: the environment's POD_NAMESPACE, else that of the pod.",
		func(value string) error {
			o.namespace = value
			return checkNamespace(value)
		})
	fs.Func("watch-namespaces", "`names` of the namespaces to work in, separated by commas. Default: empty, which is all of them.",
		func(value string) error {
			o.watchNamespaces = list(value)
			for _, namespace := range o.watchNamespaces {
				if err := checkNamespace(namespace); err != nil {
					return err
				}
			}
			return nil
		})
	oneOf(fs, &o.leaderElection, "leader-election", []string{leaderElectionLease, leaderElectionNone},
		"How one of several replicas becomes the one that works: by a Lease that it renews, or not at all, where there is only one.")
	o.workers = 8
	fs.Func("max-concurrent-reconciles", "`number` of DBUpgrades that are worked on at the same time, from 1 to 1000. Default: 8.",
		inRange(&o.workers, 1, 1000))
}

func (o *options) bindRunner(fs *flag.FlagSet, getenv func(string) string) {
	o.runner.Image = getenv("OPERATOR_IMAGE")
	fs.Func("runner-image", "`image` of the runner, which is in the operator's own. Default: the environment's OPERATOR_IMAGE.",
		func(value string) error {
			o.runner.Image = value
			_, err := name.ParseReference(value)
			return err
		})
	fs.Func("runner-image-pull-policy", "`policy` for pulling that image: Always, IfNotPresent or Never. Default: empty, for that of Kubernetes.",
		func(value string) error {
			o.runner.ImagePullPolicy = corev1.PullPolicy(value)
			if !slices.Contains([]corev1.PullPolicy{"", corev1.PullAlways, corev1.PullIfNotPresent, corev1.PullNever}, o.runner.ImagePullPolicy) {
				return fmt.Errorf("must be Always, IfNotPresent or Never")
			}
			return nil
		})
	fs.BoolVar(&o.runner.PlainHTTP, "registry-plain-http", false, "Let the runner read images from registries without TLS. Default: false.")
	fs.Func("allowed-image-prefixes", "`prefixes`, separated by commas, of which an image with migrations must have one, "+
		"such as registry.example.com/team/. Default: empty, which allows all.",
		func(value string) error {
			o.runner.AllowedImagePrefixes = list(value)
			_, err := reference.Within("", o.runner.AllowedImagePrefixes) // in none, so it looks at all of them
			return err
		})
	image(fs, &o.runner.CraneImage, "crane-image", "pulls the images with migrations, where they are not mounted")
	image(fs, &o.runner.AtlasImage, "atlas-image", "applies the migrations; status then tells less, and extraction ImageVolume is refused")
	fs.Func("database-lock-timeout", "`duration` that a migration waits for the advisory lock inside its database, such as 30s, "+
		"from 1s to 24h. Default: the runner's own.",
		func(value string) error {
			timeout, err := time.ParseDuration(value)
			if err != nil || timeout < time.Second || timeout > 24*time.Hour {
				return fmt.Errorf("must be a duration from 1s to 24h")
			}
			o.runner.LockTimeout = timeout.String()
			return nil
		})
}

// image binds a flag for the image of an upstream command line.
func image(fs *flag.FlagSet, target *string, flagName, does string) {
	upstream := strings.TrimSuffix(flagName, "-image")
	fs.Func(flagName, "`image` of the upstream "+upstream+" command line, as its entry point, that then "+does+". Default: empty, the runner does it.", func(value string) error {
		*target = value
		if value == "" {
			return nil
		}
		_, err := name.ParseReference(value)
		return err
	})
}

func (o *options) bindServing(fs *flag.FlagSet) {
	address(fs, &o.metricsAddress, "metrics-bind-address", ":8080", "`address` (host:port) that metrics are served on, at /metrics; 0 for nowhere.")
	fs.BoolVar(&o.metricsSecure, "metrics-secure", true,
		"Serve metrics by HTTPS, to those whom the API server knows and lets get /metrics. Otherwise by HTTP, to everybody.")
	fs.StringVar(&o.metricsCertDir, "metrics-cert-dir", "",
		"`directory` of tls.crt and tls.key for the metrics, read again when they change. Default: empty, a certificate is made at each start.")
	address(fs, &o.probeAddress, "health-probe-bind-address", ":8081", "`address` (host:port) that /healthz and /readyz are served on; 0 for nowhere.")
}

func (o *options) bindWebhook(fs *flag.FlagSet) {
	o.webhookPort = 9443
	fs.Func("webhook-port", "`port` that the webhook is served on, from 1 to 65535. Default: 9443.", inRange(&o.webhookPort, 1, 65535))
	oneOf(fs, &o.webhookCertificates, "webhook-certificates", []string{certificatesSelf, certificatesProvided, certificatesNone},
		"Where the webhook's certificate comes from: self, the operator makes and renews it; provided, somebody else keeps it in the directory of "+
			"--webhook-cert-dir and tells the API server of its authority; none, there is no webhook.")
	fs.StringVar(&o.webhookCertDir, "webhook-cert-dir", "/tmp/k8s-webhook-server/serving-certs",
		"`directory` of the webhook's tls.crt and tls.key, read again when they change. With self, the operator writes them there.")
	fs.StringVar(&o.webhookService, "webhook-service-name", "dbupgrade-webhook-service",
		"With self: `name` of the Service of the webhook, in the operator's namespace, that the certificate is for.")
	fs.StringVar(&o.webhookSecret, "webhook-secret-name", "dbupgrade-webhook-certificate",
		"With self: `name` of the Secret, in the operator's namespace, that keeps the certificate and its authority. It must exist, and may be empty.")
	fs.StringVar(&o.webhookConfiguration, "webhook-configuration-name", "dbupgrade-validating-webhook-configuration",
		"With self: `name` of the ValidatingWebhookConfiguration that is told of the authority.")
}

// oneOf binds a flag that has one of some values, the first by default.
func oneOf(fs *flag.FlagSet, target *string, flagName string, values []string, usage string) {
	*target = values[0]
	fs.Func(flagName, "One of `"+strings.Join(values, "|")+"`. "+usage+" Default: "+values[0]+".", func(value string) error {
		if !slices.Contains(values, value) {
			return fmt.Errorf("must be %s or %s", strings.Join(values[:len(values)-1], ", "), values[len(values)-1])
		}
		*target = value
		return nil
	})
}

func address(fs *flag.FlagSet, target *string, flagName, fallback, usage string) {
	*target = fallback
	fs.Func(flagName, usage+" Default: "+fallback+".", func(value string) error {
		if _, _, err := net.SplitHostPort(value); err != nil && value != "0" {
			return fmt.Errorf("must be host:port, where the host may be empty, or 0")
		}
		*target = value
		return nil
	})
}

func inRange(target *int, least, most int) func(string) error {
	return func(value string) error {
		number, err := strconv.Atoi(value)
		if err != nil || number < least || number > most {
			return fmt.Errorf("must be a number from %d to %d", least, most)
		}
		*target = number
		return nil
	}
}

func checkNamespace(value string) error {
	if problems := validation.IsDNS1123Label(value); len(problems) > 0 {
		return fmt.Errorf("%q is no name of a namespace: %s", value, strings.Join(problems, ", "))
	}
	return nil
}

// list splits at commas and leaves out what is empty.
func list(value string) []string {
	return strings.FieldsFunc(value, func(r rune) bool { return r == ',' || r == ' ' })
}
