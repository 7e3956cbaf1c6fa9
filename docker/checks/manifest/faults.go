package manifest

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// checker collects what is wrong between objects.
type checker struct {
	objects     []Object
	deployments []*appsv1.Deployment
	services    []*corev1.Service
	secrets     map[string][]string // keys by name
	configs     map[string][]string
	faults      []string
}

// Faults are what an API server does not look for: names, labels, keys and ports that lead nowhere, and what would make a
// pod that stops lose requests. secrets are those that come from elsewhere, with their keys.
func Faults(objects []Object, secrets map[string][]string) []string {
	c := &checker{objects: objects, deployments: All[appsv1.Deployment](objects), services: All[corev1.Service](objects), secrets: map[string][]string{}, configs: map[string][]string{}}
	for name, keys := range secrets {
		c.secrets[name] = keys
	}
	for _, s := range All[corev1.Secret](objects) {
		for key := range s.Data {
			c.secrets[s.Name] = append(c.secrets[s.Name], key)
		}
		for key := range s.StringData {
			c.secrets[s.Name] = append(c.secrets[s.Name], key)
		}
	}
	for _, m := range All[corev1.ConfigMap](objects) {
		for key := range m.Data {
			c.configs[m.Name] = append(c.configs[m.Name], key)
		}
	}
	c.names()
	for _, d := range c.deployments {
		c.deployment(d)
	}
	for _, s := range c.services {
		c.service(s)
	}
	c.budgets()
	c.autoscalers()
	c.policies()
	c.monitors()
	return c.faults
}

func (c *checker) fault(of, format string, args ...any) {
	c.faults = append(c.faults, of+": "+fmt.Sprintf(format, args...))
}

// names finds objects that are there twice, and those that are in no namespace or in several.
func (c *checker) names() {
	seen, namespace := map[string]bool{}, ""
	for _, n := range All[corev1.Namespace](c.objects) {
		namespace = n.Name
	}
	for _, o := range c.objects {
		if seen[o.String()] {
			c.fault(o.String(), "is there twice")
		}
		seen[o.String()] = true
		if o.Kind != "Namespace" && namespace != "" && o.Namespace != namespace {
			c.fault(o.String(), "is in the namespace %q, want %q", o.Namespace, namespace)
		}
	}
}

func matches(s *metav1.LabelSelector, set map[string]string) bool {
	selector, err := metav1.LabelSelectorAsSelector(s)
	return err == nil && !selector.Empty() && selector.Matches(labels.Set(set))
}

// selected are the deployments whose pods a selector selects.
func (c *checker) selected(s *metav1.LabelSelector) (found []*appsv1.Deployment) {
	for _, d := range c.deployments {
		if matches(s, d.Spec.Template.Labels) {
			found = append(found, d)
		}
	}
	return found
}

// hasPort reports whether a container of the pod has a port, by name or number.
func hasPort(pod *corev1.PodSpec, port intstr.IntOrString) bool {
	for _, container := range pod.Containers {
		for _, p := range container.Ports {
			if port.Type == intstr.String && p.Name == port.StrVal || port.Type == intstr.Int && p.ContainerPort == port.IntVal {
				return true
			}
		}
	}
	return false
}

func (c *checker) service(s *corev1.Service) {
	of := "Service " + s.Name
	found := c.selected(&metav1.LabelSelector{MatchLabels: s.Spec.Selector})
	if len(found) != 1 {
		c.fault(of, "selects the pods of %d deployments, want one", len(found))
	}
	for _, d := range found {
		for _, p := range s.Spec.Ports {
			if !hasPort(&d.Spec.Template.Spec, p.TargetPort) {
				c.fault(of, "targetPort %s is no port of %s", p.TargetPort.String(), d.Name)
			}
		}
	}
}

func (c *checker) budgets() {
	covered := map[string]bool{}
	for _, b := range All[policyv1.PodDisruptionBudget](c.objects) {
		found := c.selected(b.Spec.Selector)
		if len(found) != 1 {
			c.fault("PodDisruptionBudget "+b.Name, "selects the pods of %d deployments, want one", len(found))
		}
		for _, d := range found {
			covered[d.Name] = true
		}
	}
	for _, d := range c.deployments {
		if !covered[d.Name] {
			c.fault("Deployment "+d.Name, "no PodDisruptionBudget selects its pods")
		}
	}
}

func (c *checker) autoscalers() {
	by := map[string]string{}
	scales := func(of string, ref autoscalingv2.CrossVersionObjectReference, least, most int32) {
		d := Named[appsv1.Deployment](c.objects, ref.Name)
		switch {
		case d == nil || ref.Kind != "Deployment" || ref.APIVersion != "apps/v1":
			c.fault(of, "scales %s %s %s, which is not there", ref.APIVersion, ref.Kind, ref.Name)
		case by[ref.Name] != "":
			c.fault(of, "scales %s, as does %s", ref.Name, by[ref.Name])
		case d.Spec.Replicas != nil:
			c.fault(of, "scales %s, whose replicas each apply would set to %d again", ref.Name, *d.Spec.Replicas)
		}
		if by[ref.Name] = of; least > most {
			c.fault(of, "has a minimum of %d above its maximum of %d", least, most)
		}
	}
	for _, h := range All[autoscalingv2.HorizontalPodAutoscaler](c.objects) {
		scales("HorizontalPodAutoscaler "+h.Name, h.Spec.ScaleTargetRef, *h.Spec.MinReplicas, h.Spec.MaxReplicas)
	}
	for _, s := range All[ScaledObject](c.objects) {
		of := "ScaledObject " + s.Name
		scales(of, s.Spec.ScaleTargetRef, s.Spec.MinReplicaCount, s.Spec.MaxReplicaCount)
		for _, t := range s.Spec.Triggers {
			if t.AuthenticationRef == nil || Named[TriggerAuthentication](c.objects, t.AuthenticationRef.Name) == nil {
				c.fault(of, "has no TriggerAuthentication")
			}
			c.asks(of, s.Namespace, t.Metadata["url"])
		}
	}
	for _, a := range All[TriggerAuthentication](c.objects) {
		for _, r := range a.Spec.SecretTargetRef {
			c.key("TriggerAuthentication "+a.Name, c.secrets, r.Name, r.Key)
		}
	}
	for _, d := range c.deployments {
		if by[d.Name] == "" && d.Spec.Replicas == nil {
			c.fault("Deployment "+d.Name, "has neither replicas nor an autoscaler")
		}
	}
}

// asks finds out whether a URL leads to a port of a Service of the namespace.
func (c *checker) asks(of, namespace, text string) {
	u, err := url.Parse(text)
	if err != nil {
		c.fault(of, "%v", err)
		return
	}
	name, rest, _ := strings.Cut(u.Hostname(), ".")
	in, _, _ := strings.Cut(rest, ".")
	s := Named[corev1.Service](c.objects, name)
	if s == nil || in != namespace {
		c.fault(of, "asks %s, and there is no such Service in %s", text, namespace)
		return
	}
	if !slices.ContainsFunc(s.Spec.Ports, func(p corev1.ServicePort) bool { return fmt.Sprint(p.Port) == u.Port() }) {
		c.fault(of, "asks port %s of %s, which has none", u.Port(), s.Name)
	}
}

func (c *checker) policies() {
	for _, p := range All[networkingv1.NetworkPolicy](c.objects) {
		of := "NetworkPolicy " + p.Name
		found := c.selected(&p.Spec.PodSelector)
		if len(found) == 0 {
			c.fault(of, "selects no pods")
		}
		for _, d := range found {
			for _, rule := range p.Spec.Ingress {
				for _, port := range rule.Ports {
					if port.Port == nil || !hasPort(&d.Spec.Template.Spec, *port.Port) {
						c.fault(of, "port %v is no port of %s", port.Port, d.Name)
					}
				}
				for _, from := range rule.From {
					if from.PodSelector != nil && from.NamespaceSelector == nil && from.PodSelector.MatchLabels["app.kubernetes.io/name"] != "" && len(c.selected(from.PodSelector)) == 0 {
						c.fault(of, "lets pods in that there are none of: %v", from.PodSelector.MatchLabels)
					}
				}
			}
		}
	}
}

func (c *checker) monitors() {
	for _, m := range All[ServiceMonitor](c.objects) {
		of, found := "ServiceMonitor "+m.Name, 0
		for _, s := range c.services {
			if !matches(&m.Spec.Selector, s.Labels) {
				continue
			}
			found++
			for _, e := range m.Spec.Endpoints {
				if !slices.ContainsFunc(s.Spec.Ports, func(p corev1.ServicePort) bool { return p.Name == e.Port }) {
					c.fault(of, "port %s is no port of the Service %s", e.Port, s.Name)
				}
				if a := e.Authorization; a != nil {
					c.key(of, c.secrets, a.Credentials.Name, a.Credentials.Key)
				}
			}
			if m.Spec.JobLabel != "" && s.Labels[m.Spec.JobLabel] == "" {
				c.fault(of, "the Service %s has no label %s", s.Name, m.Spec.JobLabel)
			}
		}
		if found != 1 {
			c.fault(of, "selects %d Services, want one", found)
		}
	}
	for _, m := range All[PodMonitor](c.objects) {
		of, found := "PodMonitor "+m.Name, c.selected(&m.Spec.Selector)
		if len(found) == 0 {
			c.fault(of, "selects no pods")
		}
		for _, d := range found {
			for _, e := range m.Spec.PodMetricsEndpoints {
				if !hasPort(&d.Spec.Template.Spec, intstr.FromString(e.Port)) {
					c.fault(of, "port %s is no port of %s", e.Port, d.Name)
				}
			}
			for _, l := range m.Spec.PodTargetLabels {
				if d.Spec.Template.Labels[l] == "" {
					c.fault(of, "the pods of %s have no label %s", d.Name, l)
				}
			}
		}
	}
}

// key finds out whether a Secret or a ConfigMap has a key.
func (c *checker) key(of string, all map[string][]string, name, key string) {
	keys, ok := all[name]
	if !ok {
		c.fault(of, "needs %s, which is not there", name)
	} else if !slices.Contains(keys, key) {
		c.fault(of, "needs the key %s of %s, which has %v", key, name, keys)
	}
}

// Flag is what follows a flag in the arguments of a container, or what it is without.
func Flag(container *corev1.Container, name, without string) string {
	if i := slices.Index(container.Args, name); i >= 0 && i+1 < len(container.Args) {
		return container.Args[i+1]
	}
	return without
}

// span reads a flag that is a span of time.
func (c *checker) span(of string, container *corev1.Container, flag, without string) time.Duration {
	d, err := time.ParseDuration(Flag(container, flag, without))
	if err != nil {
		c.fault(of, "%s: %v", flag, err)
	}
	return d
}
