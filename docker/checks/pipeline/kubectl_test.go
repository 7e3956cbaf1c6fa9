package pipeline

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"

	"weir/docker/checks/manifest"
)

// TestMain is kubectl where it was called by that name.
func TestMain(m *testing.M) {
	if filepath.Base(os.Args[0]) != "kubectl" {
		os.Exit(m.Run())
	}
	status, err := kubectl(os.Args[1:])
	if err != nil {
		fmt.Fprintln(os.Stderr, "kubectl:", err)
		status = 1
	}
	os.Exit(status)
}

// kept is what the stand-in knows of the cluster, in a file of its folder.
type kept struct {
	Weir   string   // the program
	Tokens string   // its file of tokens
	Pods   []pod    // of weir
	Local  []string // pairs that make a weir.yaml of the cluster one of this machine
}

type pod struct{ Name, File, State, Admin string }

const folderVariable = "WEIR_TEST_CLUSTER"

func folder(name string) string { return filepath.Join(os.Getenv(folderVariable), name) }

// kubectl does what the scripts ask for, and refuses what it does not know.
func kubectl(args []string) (int, error) {
	var k kept
	text, err := os.ReadFile(folder("cluster.json"))
	if err != nil {
		return 1, err
	}
	if err := json.Unmarshal(text, &k); err != nil {
		return 1, err
	}
	if len(args) < 3 || args[0] != "--namespace" {
		return 1, fmt.Errorf("no namespace in %q", args)
	}
	args = args[2:]
	switch said := strings.Join(args, " "); {
	case said == "get pods --selector app.kubernetes.io/name=weir --field-selector status.phase=Running --output name":
		for _, p := range k.Pods {
			fmt.Println("pod/" + p.Name)
		}
	case strings.HasPrefix(said, "get pods --selector app.kubernetes.io/part-of=weir"), strings.HasPrefix(said, "rollout history deployment/"):
		fmt.Println("…")
	case strings.HasPrefix(said, "rollout status deployment/"):
		fmt.Println("successfully rolled out")
	case strings.HasPrefix(said, "rollout undo deployment/ml-api-"):
		colour := strings.TrimPrefix(args[2], "deployment/ml-api-")
		return 0, os.Rename(folder("image-"+colour+".before"), folder("image-"+colour))
	case strings.HasPrefix(said, "get configmap weir-config "):
		text, err := os.ReadFile(folder("weir.yaml"))
		if errors.Is(err, os.ErrNotExist) {
			if !slices.Contains(args, "--ignore-not-found") {
				return 1, err
			}
			return 0, nil
		}
		fmt.Print(string(text))
		return 0, err
	case strings.HasPrefix(said, "get deployment ml-api-"):
		text, err := os.ReadFile(folder("image-" + strings.TrimPrefix(args[2], "ml-api-")))
		fmt.Print(string(text))
		return 0, err
	case strings.HasPrefix(said, "get configmap,deployment,"):
		fmt.Println("kind: List")
	case strings.HasPrefix(said, "get pod/"):
		if !slices.ContainsFunc(k.Pods, func(p pod) bool { return "pod/"+p.Name == args[1] }) {
			return 1, fmt.Errorf("%s: not found", args[1])
		}
		fmt.Println(args[1])
	case args[0] == "exec":
		return k.exec(args[1:])
	case strings.HasPrefix(said, "apply --kustomize "):
		return 0, k.apply(args[2])
	case strings.HasPrefix(said, "create configmap weir-config --from-file=weir.yaml="):
		text, err := os.ReadFile(strings.TrimPrefix(args[3], "--from-file=weir.yaml="))
		fmt.Printf("kind: ConfigMap\napiVersion: v1\nmetadata: {name: weir-config}\ndata:\n  weir.yaml: %q\n", text)
		return 0, err
	case said == "apply --filename -":
		text, err := io.ReadAll(os.Stdin)
		if err != nil {
			return 1, err
		}
		o, err := manifest.Decode(text)
		if err != nil {
			return 1, err
		}
		return 0, k.put(o.Value.(*corev1.ConfigMap).Data["weir.yaml"])
	default:
		return 1, fmt.Errorf("the stand-in does not know %q", args)
	}
	return 0, nil
}

// exec runs weir's command line as in the container of a pod.
func (k *kept) exec(args []string) (int, error) {
	i := slices.IndexFunc(k.Pods, func(p pod) bool { return "pod/"+p.Name == args[0] })
	if i < 0 || strings.Join(args[1:5], " ") != "--container weir -- /weir" {
		return 1, fmt.Errorf("cannot exec %q", args)
	}
	p := k.Pods[i]
	args = slices.Clone(args[5:])
	for i, a := range args {
		switch a {
		case "/run/secrets/weir/tokens":
			args[i] = k.Tokens
		case "/etc/weir/weir.yaml":
			args[i] = p.File
		}
	}
	cmd := exec.Command(k.Weir, args...)
	cmd.Env = append(os.Environ(), "WEIR_ADMIN=http://"+p.Admin)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	err := cmd.Run()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		return exit.ExitCode(), nil
	}
	return 0, err
}

// apply builds an overlay, notes the images, and gives the file to the weirs.
func (k *kept) apply(overlay string) error {
	objects, err := manifest.Build(overlay)
	if err != nil {
		return err
	}
	for _, fault := range manifest.Faults(objects, nil) {
		err = errors.Join(err, errors.New(fault))
	}
	for _, colour := range []string{"blue", "green"} {
		image := manifest.Named[appsv1.Deployment](objects, "ml-api-"+colour).Spec.Template.Spec.Containers[0].Image
		if before, _ := os.ReadFile(folder("image-" + colour)); string(before) != image {
			err = errors.Join(err, os.WriteFile(folder("image-"+colour+".before"), before, 0o600), os.WriteFile(folder("image-"+colour), []byte(image), 0o600))
		}
	}
	return errors.Join(err, k.put(manifest.Named[corev1.ConfigMap](objects, "weir-config").Data["weir.yaml"]))
}

// put is the cluster's file from now on, and that of each weir.
func (k *kept) put(text string) error {
	err := os.WriteFile(folder("weir.yaml"), []byte(text), 0o600)
	for _, p := range k.Pods {
		err = errors.Join(err, k.give(p, text))
	}
	return err
}

// give replaces the file of a weir as a whole.
func (k *kept) give(p pod, text string) error {
	pairs := append(slices.Clone(k.Local), "/run/secrets/weir/tokens", k.Tokens, "/var/lib/weir/weir.state.json", p.State)
	if err := os.WriteFile(p.File+".new", []byte(strings.NewReplacer(pairs...).Replace(text)), 0o600); err != nil {
		return err
	}
	return os.Rename(p.File+".new", p.File)
}
