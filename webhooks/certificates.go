// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

package webhooks

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/open-policy-agent/cert-controller/pkg/rotator"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/webhook"
)

// Files of a certificate directory, and keys of the Secret.
const (
	certificateFile = "tls.crt"
	keyFile         = "tls.key"
)

// SelfCertificates makes a certificate authority and a serving certificate, keeps both in a Secret, tells the API server of them in the
// webhook configuration, and renews them before they end. Secret and configuration must exist: their names are all that the operator may
// write. (Lists and watches cannot be bound to a name, since the rotator asks for no single one.)
//
// Every replica does it, leader or not, since every replica serves: whoever comes second meets a conflict and uses what the first one made.
type SelfCertificates struct {
	// Namespace of the Secret and of the Service: the operator's.
	Namespace string
	// Secret that keeps authority and certificate.
	Secret string
	// Service by which the API server reaches the webhook; the certificate is for its name.
	Service string
	// Configuration is the name of the ValidatingWebhookConfiguration.
	Configuration string
	// Dir is where the webhook server reads the certificate: an existing, writable directory.
	Dir string
	// Ready is closed once the first certificate is in Dir and the API server was told of its authority.
	Ready chan struct{}
}

// Cache adds what SetupWithManager needs to the options of the manager's cache: the one Secret.
func (s SelfCertificates) Cache(options *cache.Options) {
	if options.ByObject == nil {
		options.ByObject = map[client.Object]cache.ByObject{}
	}
	options.ByObject[&corev1.Secret{}] = cache.ByObject{Namespaces: map[string]cache.Config{
		s.Namespace: {FieldSelector: fields.OneTermEqualSelector("metadata.name", s.Secret)},
	}}
}

// +kubebuilder:rbac:groups="",namespace=dbupgrade-system,resources=secrets,verbs=list;watch
// +kubebuilder:rbac:groups="",namespace=dbupgrade-system,resources=secrets,resourceNames=dbupgrade-webhook-certificate,verbs=update
// +kubebuilder:rbac:groups=admissionregistration.k8s.io,resources=validatingwebhookconfigurations,verbs=list;watch
// +kubebuilder:rbac:groups=admissionregistration.k8s.io,resources=validatingwebhookconfigurations,resourceNames=dbupgrade-validating-webhook-configuration,verbs=update

// SetupWithManager has the manager keep the certificates.
func (s SelfCertificates) SetupWithManager(mgr ctrl.Manager) error {
	err := rotator.AddRotator(mgr, &rotator.CertRotator{
		SecretKey:             types.NamespacedName{Namespace: s.Namespace, Name: s.Secret},
		CertDir:               s.Dir,
		CertName:              certificateFile,
		KeyName:               keyFile,
		CAName:                "dbupgrade-operator-ca",
		CAOrganization:        "dbupgrade-operator",
		DNSName:               fmt.Sprintf("%s.%s.svc", s.Service, s.Namespace),
		IsReady:               s.Ready,
		Webhooks:              []rotator.WebhookInfo{{Name: s.Configuration, Type: rotator.Validating}},
		FieldOwner:            "dbupgrade-operator",
		RequireLeaderElection: false,
	})
	if err != nil {
		return fmt.Errorf("add the certificate rotator: %w", err)
	}
	return ctrl.NewControllerManagedBy(mgr).Named("webhook-certificate").For(&corev1.Secret{}).
		WithOptions(controller.Options{NeedLeaderElection: ptr.To(false)}).
		Complete(s.writer(mgr.GetClient()))
}

// Server holds a webhook server back until there is a certificate that it can serve: without one it would end the manager.
func (s SelfCertificates) Server(server webhook.Server) webhook.Server {
	return waitingServer{server, s.Ready}
}

type waitingServer struct {
	webhook.Server
	ready <-chan struct{}
}

func (s waitingServer) Start(ctx context.Context) error {
	select {
	case <-s.ready:
		return s.Server.Start(ctx)
	case <-ctx.Done():
		return nil
	}
}

// writer writes the certificate that the Secret holds to the directory that the webhook server watches. A mount of the Secret would do the
// same a minute later, the kubelet's own pace: a minute without a webhook after every installation.
func (s SelfCertificates) writer(reader client.Reader) reconcile.Func {
	return func(ctx context.Context, req reconcile.Request) (reconcile.Result, error) {
		var secret corev1.Secret
		if err := reader.Get(ctx, req.NamespacedName, &secret); err != nil {
			return reconcile.Result{}, client.IgnoreNotFound(err)
		}
		certificate, key := secret.Data[certificateFile], secret.Data[keyFile]
		if len(certificate) == 0 || len(key) == 0 {
			return reconcile.Result{}, nil
		}
		// The certificate comes last: once it is there, both can be read. At a renewal, a reader between the two finds them not to match,
		// complains, and reads again.
		if err := replaceFile(filepath.Join(s.Dir, keyFile), key); err != nil {
			return reconcile.Result{}, err
		}
		return reconcile.Result{}, replaceFile(filepath.Join(s.Dir, certificateFile), certificate)
	}
}

// replaceFile writes a file that only its owner can read, in one step for whoever reads it; one that is the same already stays.
func replaceFile(path string, data []byte) error {
	if old, err := os.ReadFile(path); err == nil && bytes.Equal(old, data) {
		return nil
	}
	next := path + ".next"
	if err := os.WriteFile(next, data, 0o600); err != nil {
		return err
	}
	return os.Rename(next, path)
}
