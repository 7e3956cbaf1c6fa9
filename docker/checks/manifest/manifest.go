// Package manifest builds Kubernetes manifests by kustomize's own library, as kubectl apply -k does, and decodes them as
// strictly as an API server would: an unknown field, or one of another type, is an error.
package manifest

import (
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	"sigs.k8s.io/yaml"
)

// Object is one object of a build.
type Object struct {
	Kind, Namespace, Name string
	YAML                  []byte
	Value                 any // a pointer to the object as its type has it
}

func (o *Object) String() string { return o.Kind + " " + o.Name }

// Build builds the kustomization in a folder.
func Build(folder string) ([]Object, error) {
	built, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), folder)
	if err != nil {
		return nil, err
	}
	var objects []Object
	for _, r := range built.Resources() {
		text, err := r.AsYAML()
		if err != nil {
			return nil, err
		}
		o, err := Decode(text)
		if err != nil {
			return nil, fmt.Errorf("%s %s: %w", r.GetKind(), r.GetName(), err)
		}
		objects = append(objects, *o)
	}
	return objects, nil
}

// Decode reads one object. Kinds that it does not know are errors, so that none goes unchecked.
func Decode(text []byte) (*Object, error) {
	var head struct {
		APIVersion string `json:"apiVersion"`
		Kind       string `json:"kind"`
		Metadata   struct {
			Name      string `json:"name"`
			Namespace string `json:"namespace"`
		} `json:"metadata"`
	}
	if err := yaml.Unmarshal(text, &head); err != nil {
		return nil, err
	}
	value := typeOf(head.APIVersion, head.Kind)
	if value == nil {
		return nil, fmt.Errorf("no type is known for %s %s", head.APIVersion, head.Kind)
	}
	if err := yaml.UnmarshalStrict(text, value); err != nil {
		return nil, err
	}
	return &Object{Kind: head.Kind, Namespace: head.Metadata.Namespace, Name: head.Metadata.Name, YAML: text, Value: value}, nil
}

// typeOf is a new value of a kind, nil for one that is not known.
func typeOf(version, kind string) any {
	switch version + " " + kind {
	case "v1 ConfigMap":
		return &corev1.ConfigMap{}
	case "v1 Namespace":
		return &corev1.Namespace{}
	case "v1 Secret":
		return &corev1.Secret{}
	case "v1 Service":
		return &corev1.Service{}
	case "v1 ServiceAccount":
		return &corev1.ServiceAccount{}
	case "apps/v1 Deployment":
		return &appsv1.Deployment{}
	case "autoscaling/v2 HorizontalPodAutoscaler":
		return &autoscalingv2.HorizontalPodAutoscaler{}
	case "networking.k8s.io/v1 NetworkPolicy":
		return &networkingv1.NetworkPolicy{}
	case "policy/v1 PodDisruptionBudget":
		return &policyv1.PodDisruptionBudget{}
	case "keda.sh/v1alpha1 ScaledObject":
		return &ScaledObject{}
	case "keda.sh/v1alpha1 TriggerAuthentication":
		return &TriggerAuthentication{}
	case "monitoring.coreos.com/v1 ServiceMonitor":
		return &ServiceMonitor{}
	case "monitoring.coreos.com/v1 PodMonitor":
		return &PodMonitor{}
	}
	return nil
}

// All are the objects of one type.
func All[T any](objects []Object) []*T {
	var all []*T
	for _, o := range objects {
		if v, ok := o.Value.(*T); ok {
			all = append(all, v)
		}
	}
	return all
}

// Named is the object of a type that has a name, nil without one.
func Named[T any](objects []Object, name string) *T {
	for _, o := range objects {
		if v, ok := o.Value.(*T); ok && o.Name == name {
			return v
		}
	}
	return nil
}
