// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net"
	"os"
	"time"

	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	"k8s.io/client-go/util/cert"
	"k8s.io/client-go/util/keyutil"
)

// writeSecrets makes the certificates and keys of a cluster, and the kubeconfigs that hold some of them.
func writeSecrets(l layout) error {
	key, err := newKey()
	if err != nil {
		return err
	}
	ca, err := cert.NewSelfSignedCACert(cert.Config{CommonName: "dbupgrade-cluster"}, key)
	if err != nil {
		return err
	}
	a := authority{layout: l, cert: ca, key: key}
	if err := a.write("ca", key, ca); err != nil {
		return err
	}
	node := []net.IP{net.ParseIP(l.nodeAddress()), net.IPv4(127, 0, 0, 1)}
	serving := &x509.Certificate{
		Subject: pkix.Name{CommonName: "kube-apiserver"}, IPAddresses: append(node, net.ParseIP(l.apiAddress())),
		DNSNames: []string{"localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local"},
	}
	kubelet := &x509.Certificate{
		Subject:     pkix.Name{CommonName: "system:node:" + NodeName, Organization: []string{"system:nodes"}},
		IPAddresses: node, DNSNames: []string{NodeName},
	}
	admin := &x509.Certificate{Subject: pkix.Name{CommonName: "admin", Organization: []string{"system:masters"}}}
	proxy := &x509.Certificate{Subject: pkix.Name{CommonName: "front-proxy"}}
	for name, template := range map[string]*x509.Certificate{"apiserver": serving, "kubelet": kubelet, "admin": admin, "front-proxy": proxy} {
		if err := a.issue(name, template); err != nil {
			return err
		}
	}
	for _, user := range []string{"admin", "kubelet"} {
		if err := a.kubeconfig(user); err != nil {
			return err
		}
	}
	return a.serviceAccountKey()
}

type authority struct {
	layout
	cert *x509.Certificate
	key  crypto.Signer
}

// issue writes a certificate that is valid for a server and for a client, for as long as a test's cluster may live.
func (a authority) issue(name string, template *x509.Certificate) error {
	key, err := newKey()
	if err != nil {
		return err
	}
	template.SerialNumber, err = rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return err
	}
	template.NotBefore, template.NotAfter = a.cert.NotBefore, time.Now().AddDate(1, 0, 0)
	template.KeyUsage = x509.KeyUsageDigitalSignature
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key)
	if err != nil {
		return err
	}
	issued, err := x509.ParseCertificate(der)
	if err != nil {
		return err
	}
	return a.write(name, key, issued)
}

func (a authority) write(name string, key crypto.Signer, certificate *x509.Certificate) error {
	text, err := keyutil.MarshalPrivateKeyToPEM(key)
	if err != nil {
		return err
	}
	pem, err := cert.EncodeCertificates(certificate)
	if err != nil {
		return err
	}
	if err := os.WriteFile(a.path("pki/"+name+".key"), text, 0o600); err != nil {
		return err
	}
	return os.WriteFile(a.path("pki/"+name+".crt"), pem, 0o600)
}

// serviceAccountKey writes the key pair that signs the tokens of ServiceAccounts.
func (a authority) serviceAccountKey() error {
	key, err := newKey()
	if err != nil {
		return err
	}
	text, err := keyutil.MarshalPrivateKeyToPEM(key)
	if err != nil {
		return err
	}
	return os.WriteFile(a.path("pki/service-account.key"), text, 0o600)
}

// kubeconfig writes one that needs no other file.
func (a authority) kubeconfig(user string) error {
	files := map[string][]byte{}
	for _, name := range []string{"ca.crt", user + ".crt", user + ".key"} {
		text, err := os.ReadFile(a.path("pki/" + name))
		if err != nil {
			return err
		}
		files[name] = text
	}
	config := clientcmdapi.NewConfig()
	config.Clusters["local"] = &clientcmdapi.Cluster{Server: a.server(), CertificateAuthorityData: files["ca.crt"]}
	config.AuthInfos[user] = &clientcmdapi.AuthInfo{ClientCertificateData: files[user+".crt"], ClientKeyData: files[user+".key"]}
	config.Contexts["local"] = &clientcmdapi.Context{Cluster: "local", AuthInfo: user}
	config.CurrentContext = "local"
	return clientcmd.WriteToFile(*config, a.path(user+".kubeconfig"))
}

func newKey() (*ecdsa.PrivateKey, error) { return ecdsa.GenerateKey(elliptic.P256(), rand.Reader) }
