package kubernetes

import (
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"

	"weir/config"
	"weir/docker/checks/manifest"
)

const configName = "weir-config"

// loaded is the weir.yaml of an overlay, as weir loads it.
func loaded(t *testing.T, objects []manifest.Object) (*config.Config, string) {
	t.Helper()
	m := manifest.Named[corev1.ConfigMap](objects, configName)
	if m == nil {
		t.Fatalf("there is no ConfigMap %s", configName)
	}
	cfg, err := config.Parse("/etc/weir/weir.yaml", []byte(m.Data["weir.yaml"]))
	if err != nil {
		t.Fatalf("weir would refuse it:\n%v", err)
	}
	return cfg, m.Data["weir.yaml"]
}

// TestConfigurationsFit loads the weir.yaml of each overlay, and holds what it names against the pod it is mounted into.
func TestConfigurationsFit(t *testing.T) {
	for _, o := range append(overlays(t), overlay{name: "base", objects: build(t, filepath.Join(root, "base"))}) {
		t.Run(o.name, func(t *testing.T) {
			cfg, _ := loaded(t, o.objects)
			d := manifest.Named[appsv1.Deployment](o.objects, "weir")
			weir := &d.Spec.Template.Spec.Containers[0]
			if file := manifest.Flag(weir, "-c", ""); file != "/etc/weir/weir.yaml" || mountOf(weir, file) == nil {
				t.Errorf("weir reads %q, which is not mounted", file)
			}
			if m := mountOf(weir, cfg.Admin.TokenFile); m == nil || !m.ReadOnly {
				t.Errorf("admin.token_file %s is in no volume", cfg.Admin.TokenFile)
			} else if v := volumeOf(d, m.Name); v.Secret == nil || v.Secret.Items[0].Path != strings.TrimPrefix(cfg.Admin.TokenFile, m.MountPath+"/") {
				t.Errorf("admin.token_file %s is not what is mounted there: %+v", cfg.Admin.TokenFile, v)
			}
			if m := mountOf(weir, cfg.State.File); m == nil || m.ReadOnly {
				t.Errorf("state.file %s is in no volume that can be written to", cfg.State.File)
			}
			if limit := weir.Resources.Limits.Memory().Value(); int64(cfg.Memory.Limit) >= limit*9/10 {
				t.Errorf("memory.limit %s leaves nothing below the container's %d", cfg.Memory.Limit, limit)
			}
			port(t, weir, "http", cfg.Listeners[0].Address)
			port(t, weir, "admin", cfg.Admin.Address)
			for i := range cfg.Pools {
				pool(t, o.objects, &cfg.Pools[i])
			}
		})
	}
}

// port holds an address that weir listens on against the port of its container.
func port(t *testing.T, weir *corev1.Container, name, address string) {
	t.Helper()
	for _, p := range weir.Ports {
		if p.Name == name && address == fmt.Sprintf(":%d", p.ContainerPort) {
			return
		}
	}
	t.Errorf("weir listens on %s, and its container's port %s is another: %v", address, name, weir.Ports)
}

// pool finds out whether a pool's endpoints are the pods of the deployment of its name.
func pool(t *testing.T, objects []manifest.Object, p *config.Pool) {
	t.Helper()
	if p.Discover == nil {
		t.Errorf("pool %s has a list of endpoints", p.Name)
		return
	}
	host, number, _ := strings.Cut(p.Discover.DNS, ":")
	s := manifest.Named[corev1.Service](objects, host)
	if s == nil || s.Spec.ClusterIP != corev1.ClusterIPNone {
		t.Errorf("pool %s: %s is no headless Service", p.Name, host)
		return
	}
	if s.Spec.Selector["pool"] != p.Name || fmt.Sprint(s.Spec.Ports[0].Port) != number {
		t.Errorf("pool %s: %s leads to %v at %v", p.Name, p.Discover.DNS, s.Spec.Selector, s.Spec.Ports)
	}
	d := manifest.Named[appsv1.Deployment](objects, host)
	container := &d.Spec.Template.Spec.Containers[0]
	if listen := manifest.Flag(container, "--listen", ""); !strings.HasSuffix(listen, ":"+number) {
		t.Errorf("pool %s: the model server listens on %s, want port %s", p.Name, listen, number)
	}
	// A headless name leads past the Service's targetPort: the port is the container's own.
	if fmt.Sprint(container.Ports[0].ContainerPort) != number {
		t.Errorf("pool %s: the container has the port %d, want %s", p.Name, container.Ports[0].ContainerPort, number)
	}
	m := manifest.Named[corev1.ConfigMap](objects, container.EnvFrom[0].ConfigMapRef.Name)
	if v := m.Data["MODEL_VERSION"]; v != p.Version {
		t.Errorf("pool %s is of version %s, and its model server says %s", p.Name, p.Version, v)
	}
}

func mountOf(c *corev1.Container, file string) *corev1.VolumeMount {
	for i := range c.VolumeMounts {
		if path.Dir(file) == c.VolumeMounts[i].MountPath {
			return &c.VolumeMounts[i]
		}
	}
	return nil
}

func volumeOf(d *appsv1.Deployment, name string) *corev1.Volume {
	for i, v := range d.Spec.Template.Spec.Volumes {
		if v.Name == name {
			return &d.Spec.Template.Spec.Volumes[i]
		}
	}
	return nil
}

// TestProductionIsTheGuides looks at what weir is told: the guide's stages and waits, and bounds; and the canary's tenth.
func TestProductionIsTheGuides(t *testing.T) {
	cfg, production := loaded(t, build(t, filepath.Join(root, "overlays/production")))
	var steps []string
	for _, s := range cfg.Routes[0].Rollout.Steps {
		steps = append(steps, fmt.Sprintf("%v %s", s.Weight, s.Hold))
	}
	if got, want := strings.Join(steps, ", "), "10 5m0s, 30 5m0s, 50 10m0s, 70 10m0s, 100 5m0s"; got != want {
		t.Errorf("the steps are %s, want %s", got, want)
	}
	a := cfg.Routes[0].Rollout.Analysis
	if a.Interval.Seconds() != 30 || a.ErrorRate.MaxRatio != 1.5 || a.Latency.MaxRatio != 1.2 || a.Latency.Quantile != 0.95 {
		t.Errorf("the analysis is %+v", a)
	}
	_, canary := loaded(t, build(t, filepath.Join(root, "overlays/canary")))
	production = strings.ReplaceAll(production, "split: {blue: 100, green: 0} # pipeline: split", "split: {blue: 90, green: 10}")
	for _, mark := range []string{" # pipeline: version of blue", " # pipeline: version of green"} {
		production = strings.ReplaceAll(production, mark, "")
	}
	_, production, _ = strings.Cut(production, "\nlisteners:")
	if _, canary, _ = strings.Cut(canary, "\nlisteners:"); canary != production {
		t.Errorf("the canary's weir.yaml is not production's with another split:\n%s\nwant\n%s", canary, production)
	}
}

// TestWeirHasTheProbedPaths finds the paths of weir's probes in the description of its admin API.
func TestWeirHasTheProbedPaths(t *testing.T) {
	api, err := os.ReadFile("../../../proxy/admin/openapi.yaml")
	if err != nil {
		t.Fatal(err)
	}
	d := manifest.Named[appsv1.Deployment](build(t, filepath.Join(root, "base")), "weir")
	c := d.Spec.Template.Spec.Containers[0]
	asked := []string{c.StartupProbe.HTTPGet.Path, c.LivenessProbe.HTTPGet.Path, c.ReadinessProbe.HTTPGet.Path, "/metrics"}
	for _, s := range manifest.All[manifest.ScaledObject](build(t, withKEDA(t))) {
		_, after, _ := strings.Cut(s.Spec.Triggers[0].Metadata["url"], ":9901")
		asked = append(asked, path.Dir(after)+"/{pool}")
	}
	for _, p := range asked {
		if !strings.Contains(string(api), "\n  "+p+":\n") {
			t.Errorf("weir's admin API has no %s", p)
		}
	}
}
