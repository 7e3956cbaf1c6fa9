package kubernetes

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"

	"weir/docker/checks/manifest"
)

const root = "../../kubernetes"

// overlay is a build that somebody may apply.
type overlay struct {
	name    string
	objects []manifest.Object
	secrets map[string][]string // that come from elsewhere, with their keys
}

// overlays builds all of them, and production with KEDA in the place of the autoscaler.
func overlays(t *testing.T) []overlay {
	t.Helper()
	var all []overlay
	made := map[string][]string{"weir-admin": keys(secret(t))}
	for _, name := range []string{"development", "production", "canary"} {
		o := overlay{name: name, objects: build(t, filepath.Join(root, "overlays", name)), secrets: made}
		if name == "development" {
			o.secrets = nil // it brings its own
		}
		all = append(all, o)
	}
	return append(all, overlay{name: "production with KEDA", objects: build(t, withKEDA(t)), secrets: made})
}

func build(t *testing.T, folder string) []manifest.Object {
	t.Helper()
	objects, err := manifest.Build(folder)
	if err != nil {
		t.Fatalf("%s: %v", folder, err)
	}
	return objects
}

// withKEDA is a copy of production in which one component took the place of the other, as its comment says.
func withKEDA(t *testing.T) string {
	t.Helper()
	work := t.TempDir()
	if err := os.CopyFS(work, os.DirFS(root)); err != nil {
		t.Fatal(err)
	}
	folder := filepath.Join(work, "overlays/production")
	edit(t, filepath.Join(folder, "kustomization.yaml"), "components/hpa", "components/keda")
	return folder
}

// edit replaces what a file has exactly once.
func edit(t *testing.T, file, old, new string) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(text), old); n != 1 {
		t.Fatalf("%s has %q %d times", file, old, n)
	}
	if err := os.WriteFile(file, bytes.Replace(text, []byte(old), []byte(new), 1), 0o600); err != nil {
		t.Fatal(err)
	}
}

// secret is what admin-secret.sh prints.
func secret(t *testing.T) *corev1.Secret {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), filepath.Join(root, "admin-secret.sh")).Output()
	if err != nil {
		t.Fatalf("admin-secret.sh: %v", err)
	}
	var s corev1.Secret
	if err := yaml.UnmarshalStrict(out, &s); err != nil {
		t.Fatalf("admin-secret.sh: %v\n%s", err, out)
	}
	return &s
}

func keys(s *corev1.Secret) (all []string) {
	for key := range s.StringData {
		all = append(all, key)
	}
	return all
}

func TestOverlaysFitTogether(t *testing.T) {
	for _, o := range overlays(t) {
		t.Run(o.name, func(t *testing.T) {
			if len(o.objects) < 15 {
				t.Errorf("only %d objects were built", len(o.objects))
			}
			for _, fault := range manifest.Faults(o.objects, o.secrets) {
				t.Error(fault)
			}
		})
	}
}

// TestWhatIsInThem compares the kinds and names of production and of the canary.
func TestWhatIsInThem(t *testing.T) {
	names := func(o overlay) (all []string) {
		for i := range o.objects {
			o := &o.objects[i]
			name := o.Name
			if cut := strings.Index(name, "ml-api-env-"); cut == 0 { // with a hash
				name = name[:strings.LastIndex(name, "-")]
			}
			all = append(all, o.Kind+" "+name)
		}
		slices.Sort(all)
		return all
	}
	all := overlays(t)
	production := names(all[1])
	for _, want := range []string{
		"ConfigMap weir-config", "ConfigMap ml-api-env-blue", "Deployment ml-api-blue", "Deployment ml-api-green", "Deployment weir", "HorizontalPodAutoscaler ml-api-blue",
		"HorizontalPodAutoscaler ml-api-green", "Namespace production", "NetworkPolicy ml-api", "NetworkPolicy weir", "PodDisruptionBudget ml-api-blue",
		"PodDisruptionBudget ml-api-green", "PodDisruptionBudget weir", "PodMonitor ml-api", "Service ml-api-blue", "Service ml-api-green", "Service weir",
		"Service weir-admin", "ServiceAccount ml-api-blue", "ServiceAccount weir", "ServiceMonitor weir",
	} {
		if !slices.Contains(production, want) {
			t.Errorf("production has no %s, but %v", want, production)
		}
	}
	if slices.Contains(names(all[0]), "ServiceMonitor weir") {
		t.Error("development needs the Prometheus operator")
	}
	without := slices.DeleteFunc(slices.Clone(production), func(s string) bool { return s == "HorizontalPodAutoscaler ml-api-green" })
	if got := names(all[2]); !slices.Equal(got, without) {
		t.Errorf("the canary is not production without the autoscaler of green:\n%v\n%v", got, without)
	}
	if got := names(all[3]); !slices.Contains(got, "ScaledObject ml-api-green") || slices.Contains(got, "HorizontalPodAutoscaler ml-api-green") {
		t.Errorf("KEDA has not taken the place of the autoscaler: %v", got)
	}
}

// TestFaultsAreFound plants one fault after the other into production, and has each found.
func TestFaultsAreFound(t *testing.T) {
	objects := build(t, filepath.Join(root, "overlays/production"))
	keda := build(t, withKEDA(t))
	secrets := map[string][]string{"weir-admin": {"tokens", "operator", "prometheus", "keda"}}
	for _, tt := range []struct {
		in       []manifest.Object
		of       string // kind and name
		old, new string
		want     string
	}{
		{objects, "Service weir", "targetPort: http", "targetPort: htpp", "targetPort htpp is no port of weir"},
		{objects, "Service ml-api-blue", "pool: blue\n", "pool: bleu\n", "selects the pods of 0 deployments"},
		{objects, "PodDisruptionBudget weir", "app.kubernetes.io/name: weir", "app.kubernetes.io/name: wier", "no PodDisruptionBudget selects its pods"},
		{objects, "Deployment weir", "terminationGracePeriodSeconds: 150", "terminationGracePeriodSeconds: 100", "is killed after 1m40s, and may need 15s and then 2m0s"},
		{objects, "Deployment weir", "seconds: 15", "seconds: 1", "others may still send to it"},
		{objects, "Deployment weir", "mountPath: /etc/weir\n", "mountPath: /etc/weir\n          subPath: weir.yaml\n", "by subPath"},
		{objects, "Deployment weir", "key: tokens", "key: token", "needs the key token of weir-admin"},
		{objects, "Deployment weir", "secretName: weir-admin", "secretName: weir-amin", "needs the Secret weir-amin"},
		{objects, "Deployment weir", "readOnlyRootFilesystem: true", "readOnlyRootFilesystem: false", "write nowhere but in its volumes"},
		{objects, "Deployment weir", "image: ghcr.io/weir-proxy/weir:v0.5.0", "image: ghcr.io/weir-proxy/weir", "has no tag and no digest"},
		{objects, "Deployment weir", "path: /health/live", "path: /health/ready", "both whether it is ready and whether it is alive"},
		{objects, "Deployment ml-api-green", "serviceAccountName: ml-api-green", "serviceAccountName: ml-api", "needs the ServiceAccount"},
		{objects, "Deployment ml-api-green", "runAsNonRoot: true", "runAsNonRoot: false", "not root"},
		{objects, "HorizontalPodAutoscaler ml-api-blue", "name: ml-api-blue\n", "name: ml-inference\n", "which is not there"},
		{objects, "HorizontalPodAutoscaler ml-api-blue", "    name: ml-api-blue\n", "    name: ml-api-green\n", "as does HorizontalPodAutoscaler"},
		{objects, "ServiceMonitor weir", "key: prometheus", "key: metrics", "needs the key metrics"},
		{objects, "ServiceMonitor weir", "port: admin", "port: metrics", "port metrics is no port"},
		{objects, "PodMonitor ml-api", "- pool", "- colour", "have no label colour"},
		{objects, "NetworkPolicy weir", "port: admin", "port: amdin", "is no port of weir"},
		{keda, "ScaledObject ml-api-blue", "weir-admin.production:9901", "weir-admin.default:9901", "no such Service in production"},
		{keda, "ScaledObject ml-api-blue", "weir-admin.production:9901", "weir-admin.production:9902", "asks port 9902"},
		{keda, "TriggerAuthentication weir-admin", "key: keda", "key: kada", "needs the key kada"},
	} {
		t.Run(tt.of+" "+tt.new, func(t *testing.T) {
			changed := slices.Clone(tt.in)
			i := slices.IndexFunc(changed, func(o manifest.Object) bool { return o.String() == tt.of })
			if i < 0 {
				t.Fatalf("there is no %s", tt.of)
			}
			text := string(changed[i].YAML)
			if !strings.Contains(text, tt.old) {
				t.Fatalf("%s has no %q:\n%s", tt.of, tt.old, text)
			}
			o, err := manifest.Decode([]byte(strings.ReplaceAll(text, tt.old, tt.new)))
			if err != nil {
				t.Fatal(err)
			}
			o.Name = changed[i].Name
			changed[i] = *o
			faults := manifest.Faults(changed, secrets)
			if !slices.ContainsFunc(faults, func(f string) bool { return strings.Contains(f, tt.want) }) {
				t.Errorf("found %q, want %q", faults, tt.want)
			}
		})
	}
}

// TestStrict has an unknown field and one of another type refused.
func TestStrict(t *testing.T) {
	for _, text := range []string{
		"apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {port: 80}\n",
		"apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {ports: 80}\n",
		"apiVersion: keda.sh/v1alpha1\nkind: ScaledObject\nmetadata: {name: a}\nspec: {minReplicas: 3}\n",
		"apiVersion: batch/v1\nkind: Job\nmetadata: {name: a}\n",
	} {
		if o, err := manifest.Decode([]byte(text)); err == nil {
			t.Errorf("was accepted as %+v:\n%s", o.Value, text)
		}
	}
}

// TestAutoscalersAgree holds KEDA's bounds and behaviour against those of the autoscaler.
func TestAutoscalersAgree(t *testing.T) {
	hpas := manifest.All[autoscalingv2.HorizontalPodAutoscaler](build(t, filepath.Join(root, "overlays/production")))
	scaled := manifest.All[manifest.ScaledObject](build(t, withKEDA(t)))
	if len(hpas) != 2 || len(scaled) != 2 {
		t.Fatalf("%d and %d autoscalers", len(hpas), len(scaled))
	}
	for _, s := range scaled {
		if *hpas[0].Spec.MinReplicas != s.Spec.MinReplicaCount || hpas[0].Spec.MaxReplicas != s.Spec.MaxReplicaCount {
			t.Errorf("%s: %d to %d", s.Name, s.Spec.MinReplicaCount, s.Spec.MaxReplicaCount)
		}
		same(t, s.Name, s.Spec.Advanced.HorizontalPodAutoscalerConfig.Behavior, hpas[0].Spec.Behavior)
	}
}
