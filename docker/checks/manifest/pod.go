package manifest

import (
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
)

// user is who every container runs as: nonroot of the images.
const user = 65532

// deployment checks one deployment and its pods.
func (c *checker) deployment(d *appsv1.Deployment) {
	of, pod := "Deployment "+d.Name, &d.Spec.Template.Spec
	if !matches(d.Spec.Selector, d.Spec.Template.Labels) {
		c.fault(of, "does not select its own pods")
	}
	if Named[corev1.ServiceAccount](c.objects, pod.ServiceAccountName) == nil {
		c.fault(of, "needs the ServiceAccount %q, which is not there", pod.ServiceAccountName)
	}
	if pod.AutomountServiceAccountToken == nil || *pod.AutomountServiceAccountToken || pod.EnableServiceLinks == nil || *pod.EnableServiceLinks {
		c.fault(of, "gives its pods what they do not need: a token of the Kubernetes API, or variables of Services")
	}
	if s := pod.SecurityContext; s == nil || s.RunAsNonRoot == nil || !*s.RunAsNonRoot || s.RunAsUser == nil || *s.RunAsUser != user ||
		s.SeccompProfile == nil || s.SeccompProfile.Type != corev1.SeccompProfileTypeRuntimeDefault {
		c.fault(of, "its pods have to run as %d, not root, with the seccomp profile RuntimeDefault", user)
	}
	if len(pod.TopologySpreadConstraints) == 0 {
		c.fault(of, "does not spread its pods")
	}
	for _, t := range pod.TopologySpreadConstraints {
		if !matches(t.LabelSelector, d.Spec.Template.Labels) {
			c.fault(of, "spreads other pods than its own over %s", t.TopologyKey)
		}
		if w := t.WhenUnsatisfiable; w != corev1.DoNotSchedule && w != corev1.ScheduleAnyway {
			c.fault(of, "whenUnsatisfiable %q is neither DoNotSchedule nor ScheduleAnyway", w)
		}
	}
	c.volumes(of, pod)
	for i := range pod.Containers {
		c.container(of+", "+pod.Containers[i].Name, pod, &pod.Containers[i])
	}
	c.stop(of, pod)
}

func (c *checker) container(of string, pod *corev1.PodSpec, container *corev1.Container) {
	if last := container.Image[strings.LastIndex(container.Image, "/")+1:]; !strings.Contains(last, ":") && !strings.Contains(last, "@") {
		c.fault(of, "the image %s has no tag and no digest", container.Image)
	}
	s := container.SecurityContext
	if s == nil || s.ReadOnlyRootFilesystem == nil || !*s.ReadOnlyRootFilesystem || s.AllowPrivilegeEscalation == nil || *s.AllowPrivilegeEscalation ||
		s.Capabilities == nil || len(s.Capabilities.Drop) != 1 || s.Capabilities.Drop[0] != "ALL" || len(s.Capabilities.Add) > 0 {
		c.fault(of, "has to drop ALL, escalate nothing, and write nowhere but in its volumes")
	}
	r := container.Resources
	if r.Requests.Cpu().IsZero() || r.Requests.Memory().IsZero() || r.Limits.Memory().IsZero() || r.Requests.Memory().Cmp(*r.Limits.Memory()) > 0 {
		c.fault(of, "has to request CPU and memory, and limit memory")
	}
	for name, probe := range map[string]*corev1.Probe{"startupProbe": container.StartupProbe, "livenessProbe": container.LivenessProbe, "readinessProbe": container.ReadinessProbe} {
		if probe == nil || probe.HTTPGet == nil {
			c.fault(of, "has no %s over HTTP", name)
		} else if !hasPort(pod, probe.HTTPGet.Port) {
			c.fault(of, "%s asks the port %s, which it does not have", name, probe.HTTPGet.Port.String())
		}
	}
	if l, r := container.LivenessProbe, container.ReadinessProbe; l != nil && r != nil && l.HTTPGet != nil && r.HTTPGet != nil && l.HTTPGet.Path == r.HTTPGet.Path {
		c.fault(of, "asks %s both whether it is ready and whether it is alive: a pod whose models are gone would be restarted for nothing", l.HTTPGet.Path)
	}
	for _, from := range container.EnvFrom {
		if from.ConfigMapRef != nil && c.configs[from.ConfigMapRef.Name] == nil {
			c.fault(of, "needs the ConfigMap %s, which is not there", from.ConfigMapRef.Name)
		}
	}
	for _, m := range container.VolumeMounts {
		if volume(pod, m.Name) == nil {
			c.fault(of, "mounts %s, which is no volume of its pod", m.Name)
		}
		if m.SubPath != "" || m.SubPathExpr != "" {
			c.fault(of, "mounts %s by subPath, which does not follow changes", m.Name)
		}
	}
}

func volume(pod *corev1.PodSpec, name string) *corev1.Volume {
	for i := range pod.Volumes {
		if pod.Volumes[i].Name == name {
			return &pod.Volumes[i]
		}
	}
	return nil
}

func (c *checker) volumes(of string, pod *corev1.PodSpec) {
	for _, v := range pod.Volumes {
		switch {
		case v.ConfigMap != nil:
			if c.configs[v.ConfigMap.Name] == nil {
				c.fault(of, "needs the ConfigMap %s, which is not there", v.ConfigMap.Name)
			}
			for _, i := range v.ConfigMap.Items {
				c.key(of, c.configs, v.ConfigMap.Name, i.Key)
			}
		case v.Secret != nil:
			if c.secrets[v.Secret.SecretName] == nil {
				c.fault(of, "needs the Secret %s, which is not there", v.Secret.SecretName)
			}
			if mode := v.Secret.DefaultMode; mode == nil || *mode&0o007 != 0 {
				c.fault(of, "everybody may read the Secret %s", v.Secret.SecretName)
			}
			for _, i := range v.Secret.Items {
				c.key(of, c.secrets, v.Secret.SecretName, i.Key)
			}
		}
	}
}

// stop finds out whether a pod is given the time that it takes to stop without losing a request, and stays long enough
// for others to notice.
func (c *checker) stop(of string, pod *corev1.PodSpec) {
	const notice = 10 * time.Second
	var before, drain time.Duration
	for i := range pod.Containers {
		switch container := &pod.Containers[i]; container.Name {
		case "weir":
			if l := container.Lifecycle; l != nil && l.PreStop != nil && l.PreStop.Sleep != nil {
				before = time.Duration(l.PreStop.Sleep.Seconds) * time.Second
			}
			drain = c.span(of, container, "--drain-timeout", "30s")
		case "ml-api":
			before = c.span(of, container, "--shutdown-delay", "0s")
			drain = c.span(of, container, "--shutdown-timeout", "30s")
		}
	}
	if before < notice {
		c.fault(of, "stops %s after it was told to: others may still send to it, want at least %s", before, notice)
	}
	grace := 30 * time.Second // Kubernetes' default
	if pod.TerminationGracePeriodSeconds != nil {
		grace = time.Duration(*pod.TerminationGracePeriodSeconds) * time.Second
	}
	if grace < before+drain {
		c.fault(of, "is killed after %s, and may need %s and then %s", grace, before, drain)
	}
}
