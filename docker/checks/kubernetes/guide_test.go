package kubernetes

import (
	"os"
	"path/filepath"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"

	"weir/docker/checks/manifest"
)

// guide reads a manifest of the guide.
func guide(t *testing.T, name string, into any) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.UnmarshalStrict(text, into); err != nil {
		t.Fatal(err)
	}
}

// same compares two values by what they are as YAML.
func same(t *testing.T, what string, got, want any) {
	t.Helper()
	g, err := yaml.Marshal(got)
	if err != nil {
		t.Fatal(err)
	}
	w, err := yaml.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	if string(g) != string(w) {
		t.Errorf("%s:\n%s\nwant\n%s", what, g, w)
	}
}

// TestAutoscalerIsTheGuides holds every figure of the autoscalers against the guide's, 4.2.
func TestAutoscalerIsTheGuides(t *testing.T) {
	var want autoscalingv2.HorizontalPodAutoscaler
	guide(t, "guide-hpa.yaml", &want)
	found := manifest.All[autoscalingv2.HorizontalPodAutoscaler](build(t, filepath.Join(root, "overlays/production")))
	if len(found) != 2 {
		t.Fatalf("%d autoscalers", len(found))
	}
	for _, h := range found {
		if h.Namespace != want.Namespace {
			t.Errorf("%s is in %s, want %s", h.Name, h.Namespace, want.Namespace)
		}
		spec := want.Spec
		spec.ScaleTargetRef.Name = h.Name // a colour's, not ml-inference
		same(t, h.Name, h.Spec, spec)
	}
}

// TestProbesAreTheGuides holds replicas and probes of the model servers against the guide's, 2.2.
func TestProbesAreTheGuides(t *testing.T) {
	var want appsv1.Deployment
	guide(t, "guide-deployment.yaml", &want)
	probes := func(d *appsv1.Deployment) []*corev1.Probe {
		c := d.Spec.Template.Spec.Containers[0]
		all := []*corev1.Probe{c.StartupProbe, c.LivenessProbe, c.ReadinessProbe}
		for i := range all {
			all[i] = all[i].DeepCopy()
			all[i].HTTPGet.Port = want.Spec.Template.Spec.Containers[0].StartupProbe.HTTPGet.Port // ours has a name
		}
		return all
	}
	objects := build(t, filepath.Join(root, "base"))
	for _, name := range []string{"ml-api-blue", "ml-api-green"} {
		d := manifest.Named[appsv1.Deployment](objects, name)
		same(t, name, probes(d), probes(&want))
		if *d.Spec.Replicas != *want.Spec.Replicas {
			t.Errorf("%s has %d replicas, want %d", name, *d.Spec.Replicas, *want.Spec.Replicas)
		}
		if ports := d.Spec.Template.Spec.Containers[0].Ports; ports[0].ContainerPort != want.Spec.Template.Spec.Containers[0].Ports[0].ContainerPort {
			t.Errorf("%s has the ports %v", name, ports)
		}
	}
}
