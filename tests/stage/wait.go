// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

package stage

import (
	"context"
	"fmt"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	clientcache "k8s.io/client-go/tools/cache"
	watchtools "k8s.io/client-go/tools/watch"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/apiutil"
)

// object is a pointer to a T that is an object of Kubernetes.
type object[T any] interface {
	*T
	client.Object
}

// Get reads one of the team's objects.
func Get[T any, O object[T]](t *Team, tb testing.TB, name string) O {
	tb.Helper()
	obj := O(new(T))
	if err := t.Client.Get(tb.Context(), client.ObjectKey{Namespace: t.Namespace, Name: name}, obj); err != nil {
		tb.Fatal(err)
	}
	return obj
}

// Wait waits until one of the team's objects is as it should be, through restarts of the API server, and returns it. The test ends where that
// takes too long, and shows what the object was then.
func Wait[T any, O object[T]](t *Team, tb testing.TB, name, what string, done func(O) bool) O {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), waitTimeout)
	defer cancel()
	var last O
	_, err := watchtools.UntilWithSync(ctx, listWatch[T, O](t, tb, name), O(new(T)), nil, func(event watch.Event) (bool, error) {
		obj, ok := event.Object.(O)
		if !ok || event.Type == watch.Deleted {
			return false, nil
		}
		last = obj
		return done(obj), nil
	})
	if err != nil {
		tb.Fatalf("%T %s/%s: waited until it %s: %v\n%s", last, t.Namespace, name, what, err, t.describe(last, name))
	}
	return last
}

// Gone waits until one of the team's objects is deleted.
func Gone[T any, O object[T]](t *Team, tb testing.TB, name string) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), waitTimeout)
	defer cancel()
	absent := func(store clientcache.Store) (bool, error) { return len(store.ListKeys()) == 0, nil }
	_, err := watchtools.UntilWithSync(ctx, listWatch[T, O](t, tb, name), O(new(T)), absent, func(event watch.Event) (bool, error) {
		return event.Type == watch.Deleted, nil
	})
	if err != nil {
		tb.Fatalf("%T %s/%s is not gone: %v\n%s", O(nil), t.Namespace, name, err, t.describe(O(new(T)), name))
	}
}

func listWatch[T any, O object[T]](t *Team, tb testing.TB, name string) *clientcache.ListWatch {
	tb.Helper()
	gvk, err := apiutil.GVKForObject(O(new(T)), t.Client.Scheme())
	if err != nil {
		tb.Fatal(err)
	}
	gvk.Kind += "List"
	newList := func() (client.ObjectList, error) {
		list, err := t.Client.Scheme().New(gvk)
		if err != nil {
			return nil, err
		}
		return list.(client.ObjectList), nil
	}
	only := func(o metav1.ListOptions) *client.ListOptions {
		return &client.ListOptions{Namespace: t.Namespace, FieldSelector: fields.OneTermEqualSelector("metadata.name", name), Raw: &o}
	}
	return &clientcache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
			list, err := newList()
			if err != nil {
				return nil, err
			}
			return list, t.Client.List(ctx, list, only(o))
		},
		WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
			list, err := newList()
			if err != nil {
				return nil, err
			}
			return t.Client.Watch(ctx, list, only(o))
		},
	}
}

// describe is what a person would look at.
func (t *Team) describe(obj client.Object, name string) string {
	gvk, err := apiutil.GVKForObject(obj, t.Client.Scheme())
	if err != nil {
		return err.Error()
	}
	var all strings.Builder
	for _, args := range [][]string{
		{"describe", strings.ToLower(gvk.Kind), name}, {"get", "jobs,pods", "--output=wide"}, {"get", "events", "--sort-by=.lastTimestamp"},
	} {
		out, err := t.TryKubectl(context.Background(), "", append(args, "--namespace="+t.Namespace)...)
		fmt.Fprintf(&all, "%s\n", out)
		if err != nil {
			fmt.Fprintf(&all, "%v\n", err)
		}
	}
	return all.String()
}
