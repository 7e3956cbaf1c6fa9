package compose_test

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/compose-spec/compose-go/v2/types"

	"weir/docker/checks/dockerfile"
)

var (
	// once are services that do something and end; they are neither asked for their health nor started again.
	once = []string{"tokens", "elasticsearch-setup", "bench"}
	// silent are services that run on and cannot be asked: the image of fluent-bit has neither a shell nor a program that
	// asks, and autoscale listens nowhere.
	silent = []string{"fluent-bit", "autoscale"}
	// machine are paths that are every machine's own.
	machine = []string{"/", "/var/run/docker.sock", "/models"}
	// open are the services whose ports are for others than this machine, and which.
	open = map[string][]uint32{"weir": {8080, 8443}, "ml-api-blue": {8000}, "ml-api-green": {8000}}

	floating = regexp.MustCompile(`:(latest|stable|edge|nightly|main|master|alpine|slim)$`)
)

// check returns what is wrong with a project. made are the secrets that secrets.sh makes.
func check(project *types.Project, made []string, file string) (faults []string) {
	fault := func(format string, args ...any) { faults = append(faults, fmt.Sprintf(format, args...)) }
	published := map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(project.Services)) {
		s := project.Services[name]
		if !strings.Contains(s.Image[strings.LastIndex(s.Image, "/")+1:], ":") || floating.MatchString(s.Image) {
			fault("%s: image %q has no version", name, s.Image)
		}
		if strings.HasSuffix(s.Image, ":dev") && s.Build == nil {
			fault("%s: image %s is built nowhere", name, s.Image)
		}
		faults = append(faults, built(name, s)...)
		faults = append(faults, mounted(name, s)...)
		if s.Privileged || slices.ContainsFunc(s.SecurityOpt, func(o string) bool { return strings.HasSuffix(o, "unconfined") }) {
			fault("%s is privileged", name)
		}
		if !slices.Contains(s.SecurityOpt, "no-new-privileges:true") && !slices.Contains(once, name) && !strings.HasPrefix(file, "swarm/") {
			fault("%s: no-new-privileges is missing", name)
		}
		if s.Deploy == nil || s.Deploy.Resources.Limits == nil || s.Deploy.Resources.Limits.MemoryBytes == 0 {
			if !slices.Contains(once, name) {
				fault("%s has no limit of memory", name)
			}
		}
		for _, port := range s.Ports {
			own := port.HostIP == "127.0.0.1"
			if !own && !slices.Contains(open[name], port.Target) {
				fault("%s: port %d is open to others", name, port.Target)
			}
			key := port.HostIP + ":" + port.Published + "/" + port.Protocol
			if other := published[key]; other != "" {
				fault("%s and %s both publish %s", name, other, key)
			}
			published[key] = name
		}
		faults = append(faults, healthy(project, name, s)...)
		for _, f := range s.EnvFiles {
			if _, err := os.Stat(f.Path); err != nil {
				fault("%s: env_file: %v", name, err)
			}
		}
		for key, value := range s.Environment {
			if value != nil && regexp.MustCompile(`(?i)password|secret|token`).MatchString(key) && !strings.HasPrefix(*value, "/run/secrets/") {
				fault("%s: %s holds a secret; give a file", name, key)
			}
		}
	}
	for name, secret := range project.Secrets {
		if !bool(secret.External) && !slices.Contains(made, filepath.Base(secret.File)) {
			fault("secret %s: secrets.sh makes no %s", name, filepath.Base(secret.File))
		}
		if !bool(secret.External) && filepath.Base(filepath.Dir(secret.File)) != "secrets" {
			fault("secret %s is not in docker/secrets: %s", name, secret.File)
		}
	}
	for name, config := range project.Configs {
		if _, err := os.Stat(config.File); err != nil {
			fault("config %s: %v", name, err)
		}
	}
	return faults
}

// healthy checks the health check of a service, and that what it waits for can come to pass.
func healthy(project *types.Project, name string, s types.ServiceConfig) (faults []string) {
	has := s.HealthCheck != nil && !s.HealthCheck.Disable && len(s.HealthCheck.Test) > 1
	if !has && !slices.Contains(once, name) && !slices.Contains(silent, name) {
		faults = append(faults, name+" has no health check")
	}
	if has {
		// weir's images and the model server's have no shell.
		if own := strings.Contains(s.Image, "/weir:") || strings.Contains(s.Image, "/weir-backend:"); own && (s.HealthCheck.Test[0] != "CMD" || !strings.HasPrefix(s.HealthCheck.Test[1], "/weir")) {
			faults = append(faults, fmt.Sprintf("%s: its image has no %v", name, s.HealthCheck.Test))
		}
		if s.HealthCheck.Interval == nil || s.HealthCheck.Timeout == nil || s.HealthCheck.Retries == nil {
			faults = append(faults, name+": the health check has not all of interval, timeout and retries")
		}
	}
	for other, dependency := range s.DependsOn {
		target, ok := project.Services[other]
		if !ok {
			faults = append(faults, name+" depends on "+other+", which there is not")
			continue
		}
		switch dependency.Condition {
		case types.ServiceConditionHealthy:
			if target.HealthCheck == nil || target.HealthCheck.Disable {
				faults = append(faults, name+" waits for the health of "+other+", which is not asked")
			}
		case types.ServiceConditionCompletedSuccessfully:
			if !slices.Contains(once, other) || target.Restart == types.RestartPolicyAlways || target.Restart == types.RestartPolicyUnlessStopped {
				faults = append(faults, name+" waits for the end of "+other+", which never ends")
			}
		}
		if len(target.Profiles) > 0 && !slices.Equal(target.Profiles, s.Profiles) {
			faults = append(faults, name+" depends on "+other+", which is not always there")
		}
	}
	return faults
}

// built checks what an image is built from.
func built(name string, s types.ServiceConfig) (faults []string) {
	if s.Build == nil {
		return nil
	}
	path := s.Build.Dockerfile
	if !filepath.IsAbs(path) {
		path = filepath.Join(s.Build.Context, path)
	}
	file, err := dockerfile.Load(path)
	if err != nil {
		return []string{name + ": " + err.Error()}
	}
	if _, ok := file.Stage(s.Build.Target); !ok {
		faults = append(faults, name+": "+path+" has no stage "+s.Build.Target)
	}
	declared := map[string]bool{}
	for _, in := range file.Args {
		declared[strings.Split(in.Args, "=")[0]] = true
	}
	for _, stage := range file.Stages {
		for _, in := range stage.Instructions {
			if in.Name == "ARG" {
				declared[strings.Split(in.Args, "=")[0]] = true
			}
		}
	}
	for arg := range s.Build.Args {
		if !declared[arg] {
			faults = append(faults, name+": "+path+" has no ARG "+arg)
		}
	}
	return faults
}

// mounted checks that what is mounted is there, cannot be written where it is the checkout's, and holds what the command names.
func mounted(name string, s types.ServiceConfig) (faults []string) {
	inside := map[string]string{} // paths in the container, and where they are here
	for _, v := range s.Volumes {
		if v.Type != types.VolumeTypeBind {
			continue
		}
		inside[v.Target] = v.Source
		if slices.Contains(machine, v.Source) {
			continue
		}
		if _, err := os.Stat(v.Source); err != nil {
			faults = append(faults, name+": "+err.Error())
		}
		if !v.ReadOnly {
			faults = append(faults, name+" may write to "+v.Source)
		}
	}
	for _, word := range slices.Concat(s.Command, s.Entrypoint) {
		_, value, assigned := strings.Cut(word, "=")
		if !assigned {
			value = word
		}
		for at, here := range inside {
			if rest, ok := strings.CutPrefix(value, at+"/"); ok && at != "/" {
				if _, err := os.Stat(filepath.Join(here, rest)); err != nil {
					faults = append(faults, name+": its command names "+value+": "+err.Error())
				}
			}
		}
	}
	if path := s.Environment["MODEL_PATH"]; path != nil && inside["/models"] != "/models" {
		if _, err := os.Stat(filepath.Join(inside["/models"], strings.TrimPrefix(*path, "/models/"))); err != nil {
			faults = append(faults, name+": MODEL_PATH: "+err.Error())
		}
	}
	return faults
}
